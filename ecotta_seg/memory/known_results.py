"""Runs operators on tensors without data without working out the same shapes again and again.

Torch works out by Python what many an operator gives on its ``meta`` device: next to that, a step's
own code takes little time. A plan is chosen by tens of steps of next to the same operators.
"""

from functools import cache
from typing import NamedTuple, Optional

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

_NUMBER_OF = torch.ops.aten._local_scalar_dense.default
_BATCH_NORM = torch.ops.aten.native_batch_norm.default


class _Kind(NamedTuple):
    """All of a tensor without data that an operator can see."""

    shape: tuple[int, ...]
    stride: tuple[int, ...]
    dtype: torch.dtype


class KnownResults(TorchDispatchMode):
    """Context manager under which operators on meta tensors run once for each kind of arguments.

    What an operator has given for arguments of the same shapes, strides and dtypes, and otherwise
    the same, is made again as empty tensors. Operators that give views, or that change tensors in
    any other way than the first one in place, always run; so do those that see a tensor with data.

    A number that code asks for out of a tensor without data is 1, or true: mmseg's sliding windows
    assert that no pixel was left out.

    A ``StorageMeter`` goes inside: it sees every operator, this sees those that the meter lets
    through. The manager may be entered again and remembers.
    """

    def __init__(self) -> None:
        super().__init__()
        # By operator and arguments: kinds of what it gives, 'first' where that is the first
        # argument, changed in place, or None where it has to be run.
        self._known: dict = {}

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if func is _NUMBER_OF and args[0].is_meta:
            return 1
        if not _may_be_known(func):
            return func(*args, **kwargs)
        try:
            key = (func, _key_of(args), _key_of(kwargs))
            known = self._known.get(key)
        except (TypeError, NotImplementedError):
            return func(*args, **kwargs)
        if known == 'first':
            return args[0]
        if known is not None:
            made = tuple(map(_make, known))
            return made[0] if len(func._schema.returns) == 1 else made
        result = func(*args, **kwargs)
        if func is _BATCH_NORM and not args[5]:
            # With data a norm in evaluation mode gives no statistics beside its result.
            result = (result[0], result[1].new_empty(0), result[2].new_empty(0))
        self._known[key] = _describe(func, result, args, key[1])
        return result


@cache
def _may_be_known(func) -> bool:
    """Whether an operator gives plain tensors of its own, or the first argument in place."""
    schema = func._schema
    if not schema.returns or any(str(value.type) != 'Tensor' for value in schema.returns):
        return False
    aliases = [value.alias_info for value in schema.returns]
    if not schema.is_mutable:
        return all(alias is None for alias in aliases)
    written = [a for a in schema.arguments if a.alias_info is not None and a.alias_info.is_write]
    return len(aliases) == 1 and aliases[0] is not None and written == schema.arguments[:1]


def _key_of(value):
    """What tells one call from another.

    Raises:
        TypeError: There is a tensor with data among it.
    """
    if isinstance(value, Tensor):
        if not value.is_meta:
            raise TypeError('a tensor with data')
        return _Kind(tuple(value.shape), value.stride(), value.dtype)
    if isinstance(value, (tuple, list)):
        return tuple(map(_key_of, value))
    if isinstance(value, dict):
        return tuple((name, _key_of(item)) for name, item in value.items())
    # 1, 1.0 and True are equal, and not the same to an operator.
    return type(value), value


def _describe(func, result, args, key):
    """What is to be remembered of a result; None where the operator has to run every time."""
    if func._schema.is_mutable:
        same = result is args[0] and _key_of(args) == key
        return 'first' if same else None
    results = [result] if isinstance(result, Tensor) else list(result)
    tensors = [item for item in results if item is not None]
    if not all(tensor.is_meta for tensor in tensors):
        # Random numbers, for example: they have data wherever the rest of the step has none.
        return None
    storages = {tensor.untyped_storage()._cdata for tensor in tensors}
    # An operator may hand on the memory that it was given, whatever its schema says.
    given = {tensor.untyped_storage()._cdata for tensor in _tensors_in(args)}
    if len(storages) < len(tensors) or storages & given or not all(map(_fills_its_own, tensors)):
        return None
    return [None if item is None else _key_of(item) for item in results]


def _fills_its_own(tensor: Tensor) -> bool:
    """Whether a tensor's storage has its elements and nothing else."""
    last = sum((n - 1) * step for n, step in zip(tensor.shape, tensor.stride()))
    size = (last + 1) * tensor.element_size() if tensor.numel() else 0
    return not tensor.storage_offset() and tensor.untyped_storage().nbytes() == size


def _make(kind: Optional[_Kind]) -> Optional[Tensor]:
    """An empty tensor; None of an optional result that there was none of."""
    if kind is None:
        return None
    return torch.empty_strided(kind.shape, kind.stride, dtype=kind.dtype, device='meta')


def _tensors_in(value) -> list[Tensor]:
    if isinstance(value, Tensor):
        return [value]
    items = value if isinstance(value, (list, tuple)) else ()
    return [tensor for item in items for tensor in _tensors_in(item)]
