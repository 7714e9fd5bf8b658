"""The parts of methods: losses, norms, statistics, calibration and the shift gate."""

from .adaptive_batch_norm import AdaptiveBatchNorm2d
from .replace_norms import replace_batch_norms

__all__ = ['AdaptiveBatchNorm2d', 'replace_batch_norms']
