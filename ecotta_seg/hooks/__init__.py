"""mmengine hooks: the only part of the package that uses the Runner."""

from .best_and_worst_hook import BestAndWorstHook
from .ecotta_hook import EcoTTAHook
from .forgetting_hook import ForgettingHook
from .frame_areas_hook import FrameAreasHook
from .frame_check_hook import FrameCheckHook
from .guard_hook import GuardHook
from .label_free_hook import LabelFreeHook
from .live_view_hook import LiveViewHook
from .masks_hook import MasksHook
from .memory_hook import MemoryHook
from .panel_hook import PanelHook
from .progress import StreamProgressHook
from .report_hook import ReportHook
from .rerun_hook import RerunHook
from .results_hook import ResultsHook
from .resumable_test_loop import ResumableTestLoop
from .safe_checkpoint_hook import SafeCheckpointHook
from .shared_adapters_hook import SharedAdaptersHook
from .source_reference_hook import SourceReferenceHook
from .stream_plot_hook import StreamPlotHook
from .stream_state_hook import StreamStateHook
from .warm_up_hook import WarmUpHook

__all__ = [
    'BestAndWorstHook',
    'EcoTTAHook',
    'ForgettingHook',
    'FrameAreasHook',
    'FrameCheckHook',
    'GuardHook',
    'LabelFreeHook',
    'LiveViewHook',
    'MasksHook',
    'MemoryHook',
    'PanelHook',
    'ReportHook',
    'RerunHook',
    'ResultsHook',
    'ResumableTestLoop',
    'SafeCheckpointHook',
    'SharedAdaptersHook',
    'SourceReferenceHook',
    'StreamPlotHook',
    'StreamProgressHook',
    'StreamStateHook',
    'WarmUpHook',
]
