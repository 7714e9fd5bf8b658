"""Keeps freed memory in the process, if the C library is glibc."""

import ctypes
import os
from typing import Callable, Optional

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_MMAP_MAX = -1, -3, -4
_NEVER, _LARGEST = -1, 2**30
_SETTINGS = ('MALLOC_TRIM_THRESHOLD_', 'MALLOC_MMAP_THRESHOLD_', 'MALLOC_MMAP_MAX_')


def keep_freed_memory() -> bool:
    """Makes the process keep freed memory for later allocations, as CUDA's allocator does.

    By default glibc returns blocks above 32 MiB, and the end of the heap, to the system. The large
    feature maps of each frame then need new pages of memory, and the system must clear these pages
    first. This takes a large share of an inference's time. With this function the process's
    resident memory stays at its peak. The peak may be a few percent higher, because of gaps between
    blocks.

    The setting holds for the whole process and cannot be undone. The tools call the function;
    other programs that adapt may call it. The setting affects the main thread, in which the tools
    adapt. In other threads glibc's memory is in pieces of 64 MiB, and larger blocks still go back
    to the system. If environment variables set glibc's thresholds, the function does nothing.

    Returns:
        Whether the process keeps freed memory. False if the C library is not glibc, or if the
        function does nothing.
    """
    tunables = os.environ.get('GLIBC_TUNABLES', '')
    if any(name in os.environ for name in _SETTINGS) or 'glibc.malloc' in tunables:
        return False
    mallopt = _function('mallopt')
    if mallopt is None:
        return False
    # glibc before 2.35 accepts no threshold above 32 MiB; mmap is then turned off for all blocks.
    kept = mallopt(_M_MMAP_THRESHOLD, _LARGEST) or mallopt(_M_MMAP_MAX, 0)
    return bool(mallopt(_M_TRIM_THRESHOLD, _NEVER)) and bool(kept)


def release_freed_memory() -> None:
    """Returns all memory that is free now to the system. Without glibc nothing happens."""
    trim = _function('malloc_trim')
    if trim is not None:
        trim(0)


def _function(name: str) -> Optional[Callable[..., int]]:
    """A function of the C library; None if the library has none of that name."""
    try:
        return getattr(ctypes.CDLL(None), name)
    except (AttributeError, OSError, TypeError):
        return None
