"""Splits work into pieces, and skips pieces in a run without data."""

from functools import lru_cache

import torch


@lru_cache(maxsize=4096)
def spans(total: int, size: int, device: torch.device) -> tuple[slice, ...]:
    """Splits the range from 0 to ``total`` into slices of ``size``; the last may be shorter.

    On torch's ``meta`` device, steps run only to measure their memory, so the function returns
    just the first two pieces. The second piece needs the same memory as the first, plus the memory
    that the first left behind; each later piece needs as much as the second.
    """
    size = max(1, size)
    stop = min(2 * size, total) if device.type == 'meta' else total
    return tuple(slice(start, min(start + size, total)) for start in range(0, stop, size))
