"""A meta network as ordinary operations; a constant strength is multiplied into its weights."""

from typing import Callable, Optional

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..meta_networks import MetaNetwork
from .shared_frame import SharedFrame


class PlainMetaNetwork(nn.Module):
    """Computes ``MetaNetwork.forward`` without autograd, regions and Winograd's algorithm.

    Args:
        source: The meta network. Its modules are used and changed.
        shared: The ``SharedFrame`` of the network.
        norm_of: Returns the module that replaces a norm.
        fixed: The strength, if it is the same for every frame; the parameters are multiplied by it.
            None takes the strength of ``shared`` for each frame.
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
        """See ``MetaNetwork.forward``. The batch has one frame."""
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
    """Replaces a meta network that changes nothing."""

    def forward(self, part_output: Tensor, part_input: Tensor) -> Tensor:
        """Returns ``part_output``."""
        return part_output


def changes_nothing(source: MetaNetwork, fixed: Optional[float]) -> bool:
    """Whether a meta network returns its part's output unchanged for every frame.

    Args:
        source: The meta network.
        fixed: The strength, if it is the same for every frame; else None.
    """
    if source.start != 'identity':
        return False
    last = source.gain if source.expand is None else source.expand.weight
    parameters = (source.norm.weight, source.norm.bias, last)
    return fixed == 0 or not any(bool(parameter.any()) for parameter in parameters)
