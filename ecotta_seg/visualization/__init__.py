"""Pictures of single frames and of whole streams."""

from ..names.file_names import safe_file_name
from .condition_panel import condition_panel
from .stream_plot import draw_stream, plot_stream

__all__ = ['condition_panel', 'draw_stream', 'plot_stream', 'safe_file_name']
