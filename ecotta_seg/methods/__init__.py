"""Adaptation methods: one a file, pure PyTorch, no Runner."""

from ..registry import ADAPTATION_METHODS
from .base import AdaptationMethod
from .batch_norm_statistics import BatchNormStatistics
from .build import build_method
from .cotta import CoTTA
from .eata import EATA
from .ecotta import EcoTTA
from .ecotta_plus import EcoTTAPlus
from .gradient_adaptation import GradientAdaptation
from .ladder import LadderAdaptation
from .sar import SAR
from .source import SourceModel
from .step_record import StepRecord
from .tent import Tent
from .warm_up import MetaNetworkWarmUp

__all__ = [
    'ADAPTATION_METHODS',
    'EATA',
    'SAR',
    'AdaptationMethod',
    'EcoTTAPlus',
    'BatchNormStatistics',
    'CoTTA',
    'GradientAdaptation',
    'LadderAdaptation',
    'EcoTTA',
    'MetaNetworkWarmUp',
    'SourceModel',
    'StepRecord',
    'Tent',
    'build_method',
]
