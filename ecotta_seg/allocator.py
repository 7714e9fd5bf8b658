"""Freed memory stays with the process, where the C library is glibc."""

import ctypes
import os
from typing import Callable, Optional

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_MMAP_MAX = -1, -3, -4
_NEVER, _LARGEST = -1, 2**30
_SETTINGS = ('MALLOC_TRIM_THRESHOLD_', 'MALLOC_MMAP_THRESHOLD_', 'MALLOC_MMAP_MAX_')


def keep_freed_memory() -> bool:
    """Has the process keep what it frees, for what it allocates next, as CUDA's allocator does.

    By default glibc gives blocks above 32 MiB, and the end of the heap, back to the system. Each
    frame of a stream then gets its large maps as pages that the system has to clear first, which
    takes up to a third of an inference's time. The resident size stays at its peak; that peak may
    be some percent above what it would have been, for gaps between blocks.

    For the whole process and for good; the tools call it, a program that adapts on its own may. It
    is for the main thread, where the tools adapt: in others glibc's memory is in pieces of 64 MiB,
    and larger blocks still go back. Who has set glibc's thresholds by its environment variables is
    left alone.

    Returns:
        Whether it is so; False where the C library is another.
    """
    tunables = os.environ.get('GLIBC_TUNABLES', '')
    if any(name in os.environ for name in _SETTINGS) or 'glibc.malloc' in tunables:
        return False
    mallopt = _function('mallopt')
    if mallopt is None:
        return False
    # Before 2.35 glibc takes no threshold above 32 MiB; then no block is to be the system's at all.
    kept = mallopt(_M_MMAP_THRESHOLD, _LARGEST) or mallopt(_M_MMAP_MAX, 0)
    return bool(mallopt(_M_TRIM_THRESHOLD, _NEVER)) and bool(kept)


def release_freed_memory() -> None:
    """Gives what is free now back to the system, once; nothing happens without glibc."""
    trim = _function('malloc_trim')
    if trim is not None:
        trim(0)


def _function(name: str) -> Optional[Callable[..., int]]:
    """One of the C library's; None where it has none of that name."""
    try:
        return getattr(ctypes.CDLL(None), name)
    except (AttributeError, OSError, TypeError):
        return None
