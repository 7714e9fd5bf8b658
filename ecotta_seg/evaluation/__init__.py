"""Scores per condition and round, the results file and the results table."""

from ..names.printable import printable
from .per_condition_iou import PerConditionIoU
from .results import Results, load_results, save_results, validate_results
from .table import print_results, render_results

__all__ = [
    'PerConditionIoU',
    'Results',
    'load_results',
    'print_results',
    'printable',
    'render_results',
    'save_results',
    'validate_results',
]
