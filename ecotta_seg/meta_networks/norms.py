"""The norms of meta networks, all on (N, C, H, W) and all with ``weight`` and ``bias``."""

from typing import Optional

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from ..memory.lean.autograd_ops.frame_norm import frame_batch_norm
from ..memory.lean.autograd_ops.frame_region import FrameRegion, of_frame

_GROUPS = 32


class FrameBatchNorm2d(nn.BatchNorm2d):
    """BatchNorm that normalises by the statistics of its input, in every mode.

    At test time a meta network's BatchNorms use the frame's own statistics, as in Tent and EcoTTA;
    running statistics of the source data would defeat the adaptation. The running statistics are
    updated in training mode only (the warm-up). The layer normalises by them only if its input has
    one value per channel, because one value has no variance.

    Attributes:
        region: The part of the input whose statistics are computed outside of training, see
            ``measuring``; None for all of the input.
    """

    region: Optional[FrameRegion] = None

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to the same shape."""
        x = _laid_out(x)
        if of_frame(x[:, 0:1], self.region).numel() == 1:
            return F.batch_norm(
                x, self.running_mean, self.running_var, self.weight, self.bias, False, 0.0, self.eps
            )
        if self.training:
            y = super().forward(x)
        elif self.region is not None:
            return frame_batch_norm(x, self.weight, self.bias, self.eps, self.region)
        else:
            y = F.batch_norm(x, None, None, self.weight, self.bias, True, 0.0, self.eps)
        if y.requires_grad:
            y.register_hook(_laid_out)
        return y


def _laid_out(x: Tensor) -> Tensor:
    """The same (N, C, H, W) tensor with contiguous strides, including the dimensions of size 1.

    torch's backward of BatchNorm gives wrong gradients (seen in 2.13, CPU) if input and gradient
    differ in the stride of a batch of 1. Views of one frame's tokens differ in this stride.
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
    """One scale and one shift per channel, without normalisation."""

    def __init__(self, num_channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(num_channels))
        self.bias = nn.Parameter(torch.zeros(num_channels))

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to the same shape."""
        return x * self.weight.view(-1, 1, 1) + self.bias.view(-1, 1, 1)


class FrameGroupNorm(nn.GroupNorm):
    """GroupNorm of an (N, C, H, W) map by the statistics of the region that is not padding.

    Attributes:
        region: See ``FrameBatchNorm2d``.
    """

    region: Optional[FrameRegion] = None

    def __init__(self, num_channels: int) -> None:
        groups = next(g for g in range(min(_GROUPS, num_channels), 0, -1) if num_channels % g == 0)
        super().__init__(groups, num_channels)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to the same shape."""
        if self.region is None:
            return super().forward(x)
        # Sums over a map need more precision than bfloat16 has (under autocast).
        x = x.to(torch.promote_types(x.dtype, torch.float32))
        grouped = x.unflatten(1, (self.num_groups, -1))
        frame = self.region.crop(x).unflatten(1, (self.num_groups, -1))
        var, mean = torch.var_mean(frame, dim=(2, 3, 4), correction=0, keepdim=True)
        y = ((grouped - mean) * torch.rsqrt(var + self.eps)).flatten(1, 2)
        return y * self.weight.view(-1, 1, 1) + self.bias.view(-1, 1, 1)


NORMS = {
    'BN': FrameBatchNorm2d,
    'LN': ChannelLayerNorm,
    'GN': FrameGroupNorm,
    'affine': ChannelAffine,
}


def norm_like(backbone: nn.Module) -> str:
    """The norm of meta networks that suits a backbone: the backbone's most frequent kind of norm.

    Args:
        backbone: Any backbone.

    Returns:
        'LN' if most norms are LayerNorms, which normalise tokens over their channels; 'GN' if most
        are GroupNorms; else 'BN', as in the paper.
    """
    kinds = {'BN': 0, 'LN': 0, 'GN': 0}
    for module in backbone.modules():
        if isinstance(module, _BatchNorm):
            kinds['BN'] += 1
        elif isinstance(module, nn.GroupNorm):
            kinds['GN'] += 1
        elif isinstance(module, nn.LayerNorm):
            kinds['LN'] += 1
    return max(kinds, key=kinds.get)


def build_norm(name: str, num_channels: int) -> nn.Module:
    """Builds one of ``NORMS`` for (N, ``num_channels``, H, W).

    Raises:
        ValueError: The name is unknown.
    """
    if name not in NORMS:
        raise ValueError(f'expected a norm from {sorted(NORMS)}, got {name!r}')
    return NORMS[name](num_channels)
