"""Whether torch runs operators at a lower precision than their tensors have."""

import torch
from torch import Tensor


def under_autocast(x: Tensor) -> bool:
    """Whether ``torch.autocast`` is on for the device of ``x``.

    Never for tensors without data: the meta device has no autocast.
    """
    device = x.device.type
    if device == 'meta':
        return False
    try:
        return torch.is_autocast_enabled(device)
    except TypeError:  # torch before 2.4 has a function a device, and this one asks CUDA's.
        return torch.is_autocast_cpu_enabled() if device == 'cpu' else torch.is_autocast_enabled()
