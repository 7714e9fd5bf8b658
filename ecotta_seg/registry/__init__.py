"""The registry of adaptation methods, and clear errors for wrong options."""

from ..names.options import check_keys, constructor_options
from .registry import ADAPTATION_METHODS

__all__ = ['ADAPTATION_METHODS', 'check_keys', 'constructor_options']
