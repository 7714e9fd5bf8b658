"""Averages tensors over the processes of a group; nothing else travels."""

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

    All processes get the same bits. All of them have to call it, with tensors of equal shapes.

    Args:
        tensors: Floating point, on one device, of one dtype.
        weight: Of this process, from 0; with 0 it takes the mean of the others and its own
            values, which need not be finite, do not count.
        group: None for all processes.

    Returns:
        The sum of the weights; where it is 0, the tensors are left as they are.
    """
    tensors = list(tensors)
    sizes = [tensor.numel() for tensor in tensors]
    flat = torch.cat([tensor.reshape(-1) for tensor in tensors] or [torch.zeros(0)])
    # 0 * nan is nan: a process that does not count must not send what it has.
    flat = flat * weight if weight > 0 else torch.zeros_like(flat)
    flat = torch.cat([flat, flat.new_tensor([weight])])
    dist.all_reduce(flat, group=group)
    total = float(flat[-1])
    if total > 0:
        for tensor, part in zip(tensors, (flat[:-1] / flat[-1]).split(sizes)):
            tensor.copy_(part.view_as(tensor))
    return total
