"""Adaptation methods: one a file, pure PyTorch, no Runner."""

from .adaptive_batch_norm import AdaptiveBatchNorm2d
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
from .registry import ADAPTATION_METHODS, build_method
from .replace_norms import replace_batch_norms
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
    'AdaptiveBatchNorm2d',
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
    'replace_batch_norms',
]
