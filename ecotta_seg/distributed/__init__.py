"""Several processes: starting them without a GPU, and averaging what each has learned."""

from .exchange import average_tensors
from .launch import end_launch, prepare_cpu_launch

__all__ = ['average_tensors', 'end_launch', 'prepare_cpu_launch']
