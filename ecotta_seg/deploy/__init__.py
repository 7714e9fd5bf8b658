"""Exports an adapted network to one file for a vehicle, and adapts around such a file."""

from .around_engine import AroundEngine
from .classifier_adapter import EntropyMinimisation, FeatureAlignment, build_adapter
from .engine_segmentor import EngineSegmentor
from .export import Exported, export_network
from .from_config import export_from_config, take_state
from .frozen_engine import FrozenEngine
from .onnx_session import OnnxSession
from .plain_network import PlainNetwork

__all__ = [
    'AroundEngine',
    'EngineSegmentor',
    'EntropyMinimisation',
    'Exported',
    'FeatureAlignment',
    'FrozenEngine',
    'OnnxSession',
    'PlainNetwork',
    'build_adapter',
    'export_from_config',
    'export_network',
    'take_state',
]
