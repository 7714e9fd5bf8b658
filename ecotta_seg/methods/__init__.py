"""Adaptation methods: each has its own file, uses PyTorch alone and needs no Runner."""

from ..registry import ADAPTATION_METHODS
from .base import AdaptationMethod
from .batch_norm_statistics import BatchNormStatistics
from .becotta import BECoTTA
from .build import build_method
from .cotta import CoTTA
from .eata import EATA
from .ecotta import EcoTTA
from .ecotta_plus import EcoTTAPlus
from .expert_warm_up import ExpertWarmUp
from .gradient_adaptation import GradientAdaptation
from .hybrid_tta import HybridTTA
from .ladder import LadderAdaptation
from .mixture_of_prototypes import MixtureOfPrototypes
from .roid import ROID
from .rotta import RoTTA
from .sar import SAR
from .source import SourceModel
from .step_record import StepRecord
from .svdp import SVDP
from .tent import Tent
from .vida import ViDA
from .warm_up import MetaNetworkWarmUp

__all__ = [
    'ADAPTATION_METHODS',
    'EATA',
    'ROID',
    'SAR',
    'SVDP',
    'AdaptationMethod',
    'BECoTTA',
    'EcoTTAPlus',
    'BatchNormStatistics',
    'CoTTA',
    'ExpertWarmUp',
    'GradientAdaptation',
    'HybridTTA',
    'LadderAdaptation',
    'EcoTTA',
    'MetaNetworkWarmUp',
    'MixtureOfPrototypes',
    'RoTTA',
    'SourceModel',
    'StepRecord',
    'Tent',
    'ViDA',
    'build_method',
]
