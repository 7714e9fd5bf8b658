"""Adaptation methods: one a file, pure PyTorch, no Runner."""

from ..registry import ADAPTATION_METHODS
from .base import AdaptationMethod, StepRecord
from .batch_norm_statistics import BatchNormStatistics
from .cotta import CoTTA
from .eata import EATA
from .ecotta import MetaNetworkAdaptation
from .ecotta_plus import AnchoredMetaNetworks
from .gradient_adaptation import GradientAdaptation
from .guard import UpdateGuard
from .ladder import LadderAdaptation
from .law import LAW
from .prepare import prepare_meta_networks
from .rdumb import RDumb
from .registry import build_method
from .sar import SAR
from .source import SourceModel
from .tent import Tent
from .wrapped import WrappedAdaptation

__all__ = [
    'ADAPTATION_METHODS',
    'EATA',
    'LAW',
    'SAR',
    'AdaptationMethod',
    'AnchoredMetaNetworks',
    'BatchNormStatistics',
    'CoTTA',
    'GradientAdaptation',
    'LadderAdaptation',
    'MetaNetworkAdaptation',
    'RDumb',
    'SourceModel',
    'StepRecord',
    'Tent',
    'UpdateGuard',
    'WrappedAdaptation',
    'build_method',
    'prepare_meta_networks',
]
