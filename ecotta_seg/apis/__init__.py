"""API for a vehicle's own program: a segmentor that adapts to its input frames."""

from .adaptive_segmentor import AdaptiveSegmentor
from .init_segmentor import init_adaptive_segmentor

__all__ = ['AdaptiveSegmentor', 'init_adaptive_segmentor']
