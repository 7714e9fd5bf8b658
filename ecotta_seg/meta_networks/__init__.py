"""Meta networks: what is attached to a frozen segmentor, and where."""

from . import mit_units, resnet_units  # noqa: F401  (they register their backbones)
from .encoder import AdaptedEncoder, PartOutput, attach_meta_networks
from .ladder import LadderEncoder
from .meta_network import MetaNetwork
from .partition import check_split, default_split
from .state import load_adapters, save_adapters
from .units import EncoderUnits, UnitShape, find_units, register_units

__all__ = [
    'AdaptedEncoder',
    'EncoderUnits',
    'LadderEncoder',
    'MetaNetwork',
    'PartOutput',
    'UnitShape',
    'attach_meta_networks',
    'check_split',
    'default_split',
    'find_units',
    'load_adapters',
    'register_units',
    'save_adapters',
]
