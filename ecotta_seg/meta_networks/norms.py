"""The norms a meta network may use, all on (N, C, H, W) and all with ``weight`` and ``bias``."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_GROUPS = 32


class FrameBatchNorm2d(nn.BatchNorm2d):
    """BatchNorm that normalises by the statistics of what is before it, in every mode.

    At test time a meta network's BatchNorms work on the frame's own statistics, as in Tent and
    EcoTTA; running statistics of the source would defeat the adaptation. They are kept up to date
    in training mode only (the warm-up) and used where a batch holds one value a channel, which has
    no variance.
    """

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to the same shape."""
        x = _laid_out(x)
        if x.shape[0] * x.shape[2] * x.shape[3] == 1:
            return F.batch_norm(
                x, self.running_mean, self.running_var, self.weight, self.bias, False, 0.0, self.eps
            )
        if self.training:
            y = super().forward(x)
        else:
            y = F.batch_norm(x, None, None, self.weight, self.bias, True, 0.0, self.eps)
        if y.requires_grad:
            y.register_hook(_laid_out)
        return y


def _laid_out(x: Tensor) -> Tensor:
    """(N, C, H, W) in memory in that order, the strides of dimensions of size 1 included.

    torch's backward of BatchNorm gives wrong gradients (seen in 2.13, CPU) where input and
    gradient differ in the stride of a batch of 1, which views of one frame's tokens do.
    """
    return x.reshape(-1).view(x.shape)


class ChannelLayerNorm(nn.LayerNorm):
    """LayerNorm over the channels of each position of an (N, C, H, W) map, as on tokens."""

    def __init__(self, num_channels: int) -> None:
        super().__init__(num_channels, eps=1e-6)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to the same shape."""
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class ChannelAffine(nn.Module):
    """A scale and a shift a channel, and no normalisation."""

    def __init__(self, num_channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(num_channels))
        self.bias = nn.Parameter(torch.zeros(num_channels))

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to the same shape."""
        return x * self.weight.view(-1, 1, 1) + self.bias.view(-1, 1, 1)


def _group_norm(num_channels: int) -> nn.GroupNorm:
    groups = next(g for g in range(min(_GROUPS, num_channels), 0, -1) if num_channels % g == 0)
    return nn.GroupNorm(groups, num_channels)


NORMS = {
    'BN': FrameBatchNorm2d,
    'LN': ChannelLayerNorm,
    'GN': _group_norm,
    'affine': ChannelAffine,
}


def build_norm(name: str, num_channels: int) -> nn.Module:
    """Builds one of ``NORMS`` for (N, ``num_channels``, H, W).

    Raises:
        ValueError: The name is unknown.
    """
    if name not in NORMS:
        raise ValueError(f'expected a norm from {sorted(NORMS)}, got {name!r}')
    return NORMS[name](num_channels)
