"""Reads the ``type`` of a config, which is a text, a text with a scope, or a class."""

from collections.abc import Mapping
from typing import Any


def type_name(kind: Any) -> str:
    """Returns the name of a type without its scope.

    Args:
        kind: ``'TestLoop'``, ``'mmengine.TestLoop'``, a class, a config with such a ``type``, or an
            object. The name of None, or of a config without a ``type``, is empty.
    """
    if isinstance(kind, Mapping):
        kind = kind.get('type')
    if kind is None:
        return ''
    if isinstance(kind, str):
        return kind.rpartition('.')[2]
    return getattr(kind, '__name__', type(kind).__name__)


def is_a(kind: Any, name: str) -> bool:
    """Whether a type has a given name, or is a class derived from the class of this name.

    Args:
        kind: See ``type_name``.
        name: A name without a scope.
    """
    if isinstance(kind, Mapping):
        kind = kind.get('type')
    if kind is None or isinstance(kind, str):
        return type_name(kind) == name
    kind = kind if isinstance(kind, type) else type(kind)
    return any(base.__name__ == name for base in kind.__mro__)
