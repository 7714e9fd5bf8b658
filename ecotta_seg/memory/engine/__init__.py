"""EcoTTA's step without autograd, and the plans that fit it into a memory budget."""

from .dry_run import EngineDryRun
from .memory_engine import (
    GradientAccumulator,
    MemoryEngine,
    OptimizerInBackward,
    unsupported_reason,
)
from .planning import Planner

__all__ = [
    'GradientAccumulator',
    'MemoryEngine',
    'Planner',
    'EngineDryRun',
    'OptimizerInBackward',
    'unsupported_reason',
]
