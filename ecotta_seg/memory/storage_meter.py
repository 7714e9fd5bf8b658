"""Exact peak of live tensor memory on any device, by tracking storages.

The meter counts the bytes of ``torch.UntypedStorage`` objects, from the operator that creates a
storage until its last reference is gone. A storage that several tensors share counts once. The
number depends on the program alone, not on the allocator or the machine, so two runs give the same
peak.

Known limitations:
    * The meter does not see workspaces inside one operator's kernel (an im2col buffer, a oneDNN
      reorder), which exist below the dispatcher. It does not see the memory of Python objects and
      NumPy arrays or the allocator's rounding either. ``process_peak`` sees all of these.
    * A storage created outside the dispatcher (``torch.from_numpy``, a C++ extension with its own
      allocation) is not counted, as if it had existed at entry.
    * The meter tracks only operators of the thread that entered it. It sees autograd's backward,
      which runs in the calling thread on CPU and inherits the thread's modes on CUDA. It does not
      see a ``DataLoader`` worker or other threads.
    * If code calls ``storage.resize_()`` on the storage itself, the meter notices it at the next
      operator that uses the storage, or at the next reading of ``current_bytes``.
    * If a tensor subclass wraps other tensors, only the subclass's own storage counts.
"""

from dataclasses import dataclass
from functools import cache
from typing import NamedTuple, Optional

import torch
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode

_LIFT_FRESH = torch.ops.aten.lift_fresh.default
# The meter does not search for freed storages until it tracks this many.
_FEW = 256


class LiveTensor(NamedTuple):
    """One storage that was alive at the peak.

    Attributes:
        bytes: Size of the storage.
        shape: Shape of the tensor that the operator returned.
        dtype: Dtype of this tensor.
        operator: The operator that made the storage, such as ``'aten.convolution.default'``.
    """

    bytes: int
    shape: tuple[int, ...]
    dtype: torch.dtype
    operator: str


@dataclass
class _Entry:
    # Python's own ``weakref.ref`` refers to the wrapper. torch 2.1 creates a wrapper at each access
    # to a storage and frees it without notifying the reference.
    reference: StorageWeakRef
    bytes: int
    origin: tuple[tuple[int, ...], torch.dtype, str]

    def describe(self) -> LiveTensor:
        return LiveTensor(self.bytes, *self.origin)


class StorageMeter(TorchDispatchMode):
    """Context manager that tracks every storage created inside it.

    Storages that exist at entry are not counted, nor are their frees: all numbers are *above the
    memory at entry*. After exit the meter counts frees, but no new storages, so ``current_bytes``
    is the memory that the code under the meter still holds.

    Args:
        breakdown: Whether to keep the list of live storages at the peak, for ``peak_breakdown``.
            The meter then copies this list at each new peak.
        device: Count only storages on devices of this type (``'cpu'``, ``'cuda'``); None counts
            all. ``'meta'`` counts the bytes that tensors without data would need.

    Example:
        >>> with StorageMeter() as meter:
        ...     y = torch.zeros(1024).relu()
        >>> meter.peak_bytes
        8192
    """

    def __init__(self, breakdown: bool = False, device: Optional[str] = None) -> None:
        super().__init__()
        self._breakdown = breakdown
        self._device = device
        # By address, which is not reused while a weak reference to it exists. Some storages may
        # have been freed since the last check, so ``_current`` may be too high, never too low.
        self._live: dict[int, _Entry] = {}
        self._current = 0
        self._look_at = _FEW
        self._peak = 0
        self._at_peak: list[LiveTensor] = []

    @property
    def peak_bytes(self) -> int:
        """The most bytes alive at once, above those at entry."""
        return self._peak

    @property
    def current_bytes(self) -> int:
        """Bytes alive now, of the storages created under the meter."""
        self._forget_freed()
        for address, entry in self._live.items():
            storage = torch.UntypedStorage._new_with_weak_ptr(address)
            if storage is not None:
                self._set_size(entry, storage.nbytes())
        self._note_peak()
        return self._current

    def peak_breakdown(self) -> list[LiveTensor]:
        """The storages alive at the peak, largest first; their bytes sum to ``peak_bytes``.

        Raises:
            ValueError: The meter was created without ``breakdown=True``.
        """
        if not self._breakdown:
            raise ValueError(
                'no breakdown was kept: make the meter with StorageMeter(breakdown=True)'
            )
        return sorted(self._at_peak, key=lambda tensor: -tensor.bytes)

    def reset_peak(self) -> None:
        """Resets the peak to the current bytes (as ``torch.cuda.reset_peak_memory_stats``)."""
        self._peak = -1
        self.current_bytes  # noqa: B018  (re-reads the sizes and notes the new peak)

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if _gives_views(func):
            return func(*args, **kwargs)
        # ``torch.tensor`` and constants enter here with a storage that the meter has not seen;
        # this storage is new.
        brings_new = func is _LIFT_FRESH
        known_before = set()
        if not brings_new:
            for leaf in _leaves((args, kwargs)):
                storage = _storage_of(leaf, self._device)
                if storage is not None:
                    known_before.add(storage._cdata)
        result = func(*args, **kwargs)
        for leaf in _leaves(result):
            self._follow(leaf, known_before, func)
        if func._schema.is_mutable:
            # An in-place operator or one with ``out=`` may have resized its arguments.
            for leaf in _leaves((args, kwargs)):
                self._follow(leaf, known_before, func)
        self._note_peak()
        return result

    def _follow(self, leaf, known_before: set[int], func) -> None:
        storage = _storage_of(leaf, self._device)
        if storage is None:
            return
        key = storage._cdata
        entry = self._live.get(key)
        if entry is not None:
            self._set_size(entry, storage.nbytes())
            return
        if key in known_before or (self._device and storage.device.type != self._device):
            return
        origin = (tuple(leaf.shape), leaf.dtype, str(func))
        self._live[key] = _Entry(StorageWeakRef(storage), storage.nbytes(), origin)
        self._current += storage.nbytes()

    def _forget_freed(self) -> None:
        expired = torch.UntypedStorage._expired
        for address in [address for address in self._live if expired(address)]:
            self._current -= self._live.pop(address).bytes
        self._look_at = max(_FEW, 2 * len(self._live))

    def _set_size(self, entry: _Entry, size: int) -> None:
        self._current += size - entry.bytes
        entry.bytes = size

    def _note_peak(self) -> None:
        if self._current > self._peak or len(self._live) > self._look_at:
            self._forget_freed()
        if self._current > self._peak:
            self._peak = self._current
            if self._breakdown:
                self._at_peak = [entry.describe() for entry in self._live.values()]


@cache
def _gives_views(func) -> bool:
    """Whether an operator returns only views of its arguments and changes no argument.

    Composite operators (``reshape``) may copy although their schema declares a view. Torch
    decomposes them before they reach the meter, but not under ``inference_mode``.
    """
    schema = func._schema
    return (
        bool(schema.returns)
        and all(result.alias_info is not None for result in schema.returns)
        and not schema.is_mutable
        and func is not _LIFT_FRESH
        and not torch._C._dispatch_has_kernel_for_dispatch_key(
            func.name(), 'CompositeImplicitAutograd'
        )
    )


def _leaves(value) -> list:
    """All arguments or results of an operator, taken out of tuples, lists and dicts.

    Operators use no other containers. torch's own ``tree_leaves`` supports others, but is slow.
    """
    if isinstance(value, (tuple, list)):
        return [leaf for item in value for leaf in _leaves(item)]
    if isinstance(value, dict):
        return [leaf for item in value.values() for leaf in _leaves(item)]
    return [value]


def _storage_of(leaf, device: Optional[str]) -> Optional[torch.UntypedStorage]:
    """The storage of a tensor, or None if the value has none (numbers, sparse tensors).

    A meta tensor's storage has a size but no memory, so it counts only if ``device`` is 'meta'.
    """
    if isinstance(leaf, torch.UntypedStorage):
        return leaf
    if not isinstance(leaf, torch.Tensor):
        return None
    if leaf.device.type == 'meta' and device != 'meta':
        return None
    try:
        return leaf.untyped_storage()
    except (NotImplementedError, RuntimeError):
        return None
