"""Averages tensors over the processes of a group; no other data are exchanged."""

from collections.abc import Sequence
from typing import Optional

import torch
import torch.distributed as dist
from torch import Tensor


@torch.no_grad()
def average_tensors(
    tensors: Sequence[Tensor], weight: float = 1.0, group: Optional[dist.ProcessGroup] = None
) -> float:
    """Replaces tensors, in place, by their weighted mean over all processes.

    All processes get the same result, bit for bit. All processes must call the function, with
    tensors of equal shapes.

    Args:
        tensors: Floating-point tensors on one device and of one dtype.
        weight: Weight of this process, from 0. With weight 0, the process receives the mean of the
            other processes, and its own values do not count. These may then be NaN or infinite.
        group: The process group; None for all processes.

    Returns:
        The sum of the weights. If the sum is 0, the tensors do not change.
    """
    tensors = list(tensors)
    sizes = [tensor.numel() for tensor in tensors]
    flat = torch.cat([tensor.reshape(-1) for tensor in tensors] or [torch.zeros(0)])
    # 0 * nan is nan, so a process of weight 0 must send zeros.
    flat = flat * weight if weight > 0 else torch.zeros_like(flat)
    flat = torch.cat([flat, flat.new_tensor([weight])])
    dist.all_reduce(flat, group=group)
    total = float(flat[-1])
    if total > 0:
        for tensor, part in zip(tensors, (flat[:-1] / flat[-1]).split(sizes)):
            tensor.copy_(part.view_as(tensor))
    return total
