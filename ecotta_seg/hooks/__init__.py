"""mmengine hooks: the only place of the package that knows the Runner."""

from .ecotta_hook import EcoTTAHook
from .forgetting_hook import ForgettingHook
from .memory_hook import MemoryHook
from .panel_hook import PanelHook
from .progress import StreamProgressHook
from .results_hook import ResultsHook
from .source_reference_hook import SourceReferenceHook
from .stream_plot_hook import StreamPlotHook
from .warm_up_hook import WarmUpHook

__all__ = [
    'EcoTTAHook',
    'ForgettingHook',
    'MemoryHook',
    'PanelHook',
    'ResultsHook',
    'SourceReferenceHook',
    'StreamPlotHook',
    'StreamProgressHook',
    'WarmUpHook',
]
