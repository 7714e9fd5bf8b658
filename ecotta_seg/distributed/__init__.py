"""Starts several processes without a GPU, and averages their learned parameters."""

from .exchange import average_tensors
from .launch import end_launch, prepare_cpu_launch

__all__ = ['average_tensors', 'end_launch', 'prepare_cpu_launch']
