"""Runs operators on tensors without data and caches the shapes of their results.

On the ``meta`` device, torch computes the results of many operators in Python, which takes most of
a step's time. The choice of a plan runs tens of steps with almost the same operators.
"""

from functools import cache
from typing import NamedTuple, Optional

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

_NUMBER_OF = torch.ops.aten._local_scalar_dense.default
_BATCH_NORM = torch.ops.aten.native_batch_norm.default
_COUNTS = torch.ops.aten.bincount.default


class _Kind(NamedTuple):
    """The properties of a tensor without data that an operator can see."""

    shape: tuple[int, ...]
    stride: tuple[int, ...]
    dtype: torch.dtype


class KnownResults(TorchDispatchMode):
    """Context manager under which operators on meta tensors run once for each kind of arguments.

    If a later call has equal arguments (for tensors: equal shapes, strides and dtypes), it returns
    new empty tensors with the shapes of the first result. An operator always runs if it returns
    views, changes anything but its first argument in place, or gets a tensor with data.

    If code reads a number from a tensor without data, the number is 1, which also counts as true.
    (mmseg's sliding windows assert that every pixel is covered.) Counts of class indices
    (``bincount``) have the length that the code asks for.

    Enter a ``StorageMeter`` inside this manager. Then the meter sees every operator, and this
    manager sees the operators that the meter calls. The cached results stay valid if the manager is
    entered again.
    """

    def __init__(self) -> None:
        super().__init__()
        # The keys are operator and arguments. The value holds the kinds of the results. It is
        # 'first' if the result is the first argument, changed in place, and None if the operator
        # must run.
        self._known: dict = {}

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if func is _NUMBER_OF and args[0].is_meta:
            return 1
        if func is _COUNTS and args[0].is_meta:
            return args[0].new_empty([*args[2:], kwargs.get('minlength', 0)][0])
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
            # With data, a norm in evaluation mode returns empty statistics besides its result.
            result = (result[0], result[1].new_empty(0), result[2].new_empty(0))
        self._known[key] = _describe(func, result, args, key[1])
        return result


@cache
def _may_be_known(func) -> bool:
    """Whether an operator returns only new tensors, or its first argument changed in place."""
    schema = func._schema
    if not schema.returns or any(str(value.type) != 'Tensor' for value in schema.returns):
        return False
    aliases = [value.alias_info for value in schema.returns]
    if not schema.is_mutable:
        return all(alias is None for alias in aliases)
    written = [a for a in schema.arguments if a.alias_info is not None and a.alias_info.is_write]
    return len(aliases) == 1 and aliases[0] is not None and written == schema.arguments[:1]


def _key_of(value):
    """The key of the cache for the arguments of a call.

    Raises:
        TypeError: The arguments contain a tensor with data.
    """
    if isinstance(value, Tensor):
        if not value.is_meta:
            raise TypeError('a tensor with data')
        return _Kind(tuple(value.shape), value.stride(), value.dtype)
    if isinstance(value, (tuple, list)):
        return tuple(map(_key_of, value))
    if isinstance(value, dict):
        return tuple((name, _key_of(item)) for name, item in value.items())
    # 1, 1.0 and True are equal in Python, but differ for an operator.
    return type(value), value


def _describe(func, result, args, key):
    """The description of a result to cache; None if the operator must run every time."""
    if func._schema.is_mutable:
        same = result is args[0] and _key_of(args) == key
        return 'first' if same else None
    results = [result] if isinstance(result, Tensor) else list(result)
    tensors = [item for item in results if item is not None]
    if not all(tensor.is_meta for tensor in tensors):
        # Random numbers, for example, have data even if the rest of the step has none.
        return None
    storages = {tensor.untyped_storage()._cdata for tensor in tensors}
    # An operator may return the memory of its arguments, contrary to its schema.
    given = {tensor.untyped_storage()._cdata for tensor in _tensors_in(args)}
    if len(storages) < len(tensors) or storages & given or not all(map(_fills_its_own, tensors)):
        return None
    return [None if item is None else _key_of(item) for item in results]


def _fills_its_own(tensor: Tensor) -> bool:
    """Whether a tensor's storage contains exactly the tensor's elements."""
    last = sum((n - 1) * step for n, step in zip(tensor.shape, tensor.stride()))
    size = (last + 1) * tensor.element_size() if tensor.numel() else 0
    return not tensor.storage_offset() and tensor.untyped_storage().nbytes() == size


def _make(kind: Optional[_Kind]) -> Optional[Tensor]:
    """An empty tensor of a kind; None for a missing optional result."""
    if kind is None:
        return None
    return torch.empty_strided(kind.shape, kind.stride, dtype=kind.dtype, device='meta')


def _tensors_in(value) -> list[Tensor]:
    if isinstance(value, Tensor):
        return [value]
    items = value if isinstance(value, (list, tuple)) else ()
    return [tensor for item in items for tensor in _tensors_in(item)]
