"""For vehicles: an adapted network as one file, and adaptation around such a file."""

from .export import Exported, export_network
from .from_config import export_from_config, take_state
from .onnx_session import OnnxSession
from .plain_network import PlainNetwork

__all__ = [
    'Exported',
    'OnnxSession',
    'PlainNetwork',
    'export_from_config',
    'export_network',
    'take_state',
]
