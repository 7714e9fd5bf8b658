"""Runs layers in the 16-bit dtype of autocast, with gradients of the same dtype."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Optional

import torch
from torch import Tensor

from .autograd_ops.autocast import under_autocast


@contextmanager
def in_autocast_dtype(x: Tensor, *others: Optional[Tensor]) -> Iterator[list[Optional[Tensor]]]:
    """Casts tensors as autocast casts a convolution's arguments; autocast is off inside.

    Args:
        x: The input.
        others: Kernel and bias, or None.

    Yields:
        The tensors in the dtype of autocast; unchanged without autocast.
    """
    if not under_autocast(x):
        yield [x, *others]
        return
    device = x.device.type
    dtype = _autocast_dtype(device)
    with torch.autocast(device, enabled=False):
        yield [None if tensor is None else tensor.to(dtype) for tensor in (x, *others)]


def _autocast_dtype(device: str) -> torch.dtype:
    if hasattr(torch, 'get_autocast_dtype'):  # torch 2.4 and later
        return torch.get_autocast_dtype(device)
    return torch.get_autocast_cpu_dtype() if device == 'cpu' else torch.get_autocast_gpu_dtype()
