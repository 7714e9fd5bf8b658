"""Detects whether torch runs operators at a lower precision than their tensors have."""

import torch
from torch import Tensor


def under_autocast(x: Tensor) -> bool:
    """Whether ``torch.autocast`` is on for the device of ``x``.

    False for tensors without data, because the meta device has no autocast.
    """
    device = x.device.type
    if device == 'meta':
        return False
    try:
        return torch.is_autocast_enabled(device)
    except TypeError:  # torch before 2.4 has one function per device; this one is for CUDA.
        return torch.is_autocast_cpu_enabled() if device == 'cpu' else torch.is_autocast_enabled()
