"""A meta network as ordinary operations, with what is constant in it multiplied out."""

from typing import Callable, Optional

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..meta_networks import MetaNetwork
from .shared_frame import SharedFrame


class PlainMetaNetwork(nn.Module):
    """``MetaNetwork.forward`` without autograd, regions and a convolution of its own.

    Args:
        source: Its modules are taken over.
        shared: Of the network.
        norm_of: Gives what takes the place of a norm.
        fixed: The strength, if it is the same for every frame: the parameters take it in. None for
            the strength of ``shared``.
    """

    def __init__(
        self,
        source: MetaNetwork,
        shared: SharedFrame,
        norm_of: Callable[[nn.Module], nn.Module],
        fixed: Optional[float] = None,
    ) -> None:
        super().__init__()
        self.shared, self.residual = shared, source.start == 'identity'
        self.gated = fixed is None
        if self.residual and fixed not in (None, 1.0):
            last = source.gain if source.expand is None else source.expand.weight
            for parameter in (source.norm.weight, source.norm.bias, last):
                parameter.data.mul_(fixed)
        self.conv, self.expand, self.pool = source.conv, source.expand, source.pool
        self.norm, self.block_norm = norm_of(source.norm), norm_of(source.block_norm)
        gain: Optional[Tensor] = None
        if source.gain is not None:
            gain = source.gain.detach().clone().view(1, -1, 1, 1)
        self.register_buffer('gain', gain)

    def forward(self, part_output: Tensor, part_input: Tensor) -> Tensor:
        """See ``MetaNetwork.forward``; one frame."""
        if self.pool is not None:
            part_input = self.pool(part_input)
        block = torch.relu(self.block_norm(self.conv(part_input)))
        if self.expand is not None:
            block = self.expand(block)
        if self.pool is not None:
            block = F.interpolate(block, part_output.shape[2:], mode='bilinear')
        if not self.residual:
            return self.norm(part_output) + block
        change = self.norm(part_output) + (block if self.gain is None else self.gain * block)
        return part_output + (self.shared.strength * change if self.gated else change)


class LeftOut(nn.Module):
    """In the place of a meta network that changes nothing."""

    def forward(self, part_output: Tensor, part_input: Tensor) -> Tensor:
        """Gives ``part_output``."""
        return part_output


def changes_nothing(source: MetaNetwork, fixed: Optional[float]) -> bool:
    """Whether a meta network gives its part's output as it is, whatever the frame.

    Args:
        source: The meta network.
        fixed: The strength, if it is the same for every frame; else None.
    """
    if source.start != 'identity':
        return False
    last = source.gain if source.expand is None else source.expand.weight
    parameters = (source.norm.weight, source.norm.bias, last)
    return fixed == 0 or not any(bool(parameter.any()) for parameter in parameters)
