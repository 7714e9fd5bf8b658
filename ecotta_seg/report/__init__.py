"""HTML pages: the report of one run, and the comparison of several runs."""

from .comparison import compare_runs
from .comparison_page import print_comparison, write_comparison
from .report import REPORT_FILE, write_report

__all__ = [
    'REPORT_FILE',
    'compare_runs',
    'print_comparison',
    'write_comparison',
    'write_report',
]
