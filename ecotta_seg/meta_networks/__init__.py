"""Meta networks, and how they are attached to a frozen segmentor."""

from . import mit_units, mobilenet_units, resnet_units  # noqa: F401  (they register their backbones)
from .attach import attach_meta_networks
from .block_units import BlockUnits
from .encoder import AdaptedEncoder
from .input_channels import input_channels
from .ladder import LadderEncoder
from .meta_encoder import MetaEncoder, PartOutput
from .meta_network import MetaNetwork
from .output_encoder import OutputEncoder
from .partition import check_split, default_split
from .prepare import prepare_meta_networks
from .state import load_adapters, read_adapters, save_adapters
from .traced_encoder import TracedEncoder
from .units import EncoderUnits, UnitShape, find_units, is_described, register_units

__all__ = [
    'AdaptedEncoder',
    'BlockUnits',
    'EncoderUnits',
    'LadderEncoder',
    'MetaEncoder',
    'MetaNetwork',
    'OutputEncoder',
    'PartOutput',
    'TracedEncoder',
    'UnitShape',
    'attach_meta_networks',
    'check_split',
    'default_split',
    'find_units',
    'input_channels',
    'is_described',
    'load_adapters',
    'prepare_meta_networks',
    'read_adapters',
    'register_units',
    'save_adapters',
]
