"""mmengine hooks: the only place of the package that knows the Runner."""

from .ecotta_hook import EcoTTAHook
from .forgetting_hook import ForgettingHook
from .memory_hook import MemoryHook
from .progress import StreamProgressHook
from .source_reference_hook import SourceReferenceHook
from .warm_up_hook import WarmUpHook

__all__ = [
    'EcoTTAHook',
    'ForgettingHook',
    'MemoryHook',
    'SourceReferenceHook',
    'StreamProgressHook',
    'WarmUpHook',
]
