"""Finds the tensors that an adaptation holds besides those of its modules and its optimizer."""

from collections import deque
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

_CONTAINERS = (list, tuple, set, frozenset, deque)
_OWN_PACKAGE = __name__.split('.')[0]


def reachable_tensors(*roots: Any) -> list[Tensor]:
    """All tensors that objects reference, each once.

    The search follows attributes through modules, containers and objects of this package (a guard,
    layer weights). It finds parameters and buffers, and also tensors outside the modules, such as
    the parameters that ``reset`` restores, a teacher's parameters, or a guard's last good state.

    The search skips optimizers (their state is counted separately), objects of other packages,
    functions, and tensors without data.

    Args:
        *roots: Modules, containers, tensors or objects; None is allowed.

    Returns:
        Tensors in no particular order; some may share a storage.
    """
    found: list[Tensor] = []
    seen: set[int] = set()
    waiting = list(roots)
    while waiting:
        value = waiting.pop()
        if id(value) in seen:
            continue
        seen.add(id(value))
        if isinstance(value, Tensor):
            if value.device.type != 'meta':
                found.append(value)
        elif isinstance(value, Mapping):
            waiting.extend(value.values())
        elif isinstance(value, _CONTAINERS):
            waiting.extend(value)
        elif isinstance(value, nn.Module) or _is_own(value):
            waiting.extend(vars(value).values())
    return found


def _is_own(value: Any) -> bool:
    """Whether a value is an instance of a class of this package and has attributes."""
    if isinstance(value, (type, torch.optim.Optimizer)) or not hasattr(value, '__dict__'):
        return False
    return type(value).__module__.split('.')[0] == _OWN_PACKAGE
