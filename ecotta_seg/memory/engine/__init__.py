"""EcoTTA's step without autograd, and the plans that fit it into a memory budget."""

from .memory_engine import GradientSink, MemoryEngine, UpdatingSink, beyond_engine
from .planning import Planner
from .trial_step import TrialStep

__all__ = [
    'GradientSink',
    'MemoryEngine',
    'Planner',
    'TrialStep',
    'UpdatingSink',
    'beyond_engine',
]
