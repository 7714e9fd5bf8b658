"""Scores per condition and round, the results file and the table on screen."""

from .per_condition_iou import PerConditionIoU

__all__ = ['PerConditionIoU']
