"""BatchNorm by the statistics of the frame, with gradients through them, on a padded map.

Without padding this is torch's own BatchNorm in training mode, which is faster and is used then.
"""

from typing import NamedTuple, Optional

import torch
import torch.nn.functional as F
from torch import Tensor

from .frame_region import FrameRegion


class FrameStatistics(NamedTuple):
    """Of a norm's input.

    Attributes:
        mean: (C,).
        inverse: (C,), one over the standard deviation, which eps is added in.
    """

    mean: Tensor
    inverse: Tensor


def frame_statistics(x: Tensor, region: Optional[FrameRegion] = None) -> tuple[Tensor, Tensor]:
    """Mean and biased variance of each channel of (N, C, H, W): two (C,) tensors.

    Of a narrower dtype (autocast) in float32: sums over a map need more than its eight bits.

    Args:
        x: (N, C, H, W).
        region: The part of x that is measured; None for all of x.
    """
    if region is not None:
        # Side by side, so that the sums are those of the frame without padding, bit for bit.
        x = region.crop(x).contiguous()
    x = x.to(torch.promote_types(x.dtype, torch.float32))
    if x.shape[0] == 1 and x.is_contiguous():
        # Two passes: on a CPU a fifth of the time of BatchNorm's own kernel.
        values = x.view(x.shape[1], -1)
        mean = values.mean(dim=1)
        return mean, (values - mean[:, None]).square_().mean(dim=1)
    var, mean = torch.var_mean(x, dim=(0, 2, 3), correction=0)
    return mean, var


def frame_norm_forward(
    x: Tensor, weight: Optional[Tensor], bias: Optional[Tensor], eps: float, region: FrameRegion
) -> tuple[Tensor, FrameStatistics]:
    """Normalises the whole map by the mean and variance of the frame's part of the map.

    Args:
        x: (N, C, H, W).
        weight, bias: (C,) or None.
        eps: Added to the variance.
        region: Where the frame is.

    Returns:
        (N, C, H, W), and what ``frame_norm_backward`` needs beside x.
    """
    mean, var = frame_statistics(x, region)
    y = F.batch_norm(x, mean, var, weight, bias, False, 0.0, eps)
    return y, FrameStatistics(mean, torch.rsqrt(var + eps))


def frame_norm_backward(
    grad: Tensor,
    x: Tensor,
    weight: Optional[Tensor],
    statistics: FrameStatistics,
    region: FrameRegion,
    wanted: list[bool],
) -> tuple[Optional[Tensor], Optional[Tensor], Optional[Tensor]]:
    """Gradients of x, weight and bias, with the dependence of the statistics on x.

    Args:
        grad: (N, C, H, W), with respect to the output. All of the gradient counts, for the
            output's padding may have reached the frame through a convolution.
        x: The input.
        weight: As in the forward.
        statistics: What the forward gave.
        region: As in the forward.
        wanted: Which of the three are wanted.

    Returns:
        The gradients, None where not wanted.
    """
    mean, inverse = statistics
    # With constant statistics first; inverse ** -2 is the variance, eps and all.
    of_input, of_weight, of_bias = torch.ops.aten.native_batch_norm_backward(
        grad, x, weight, mean, inverse.pow(-2), None, None, False, 0.0, [wanted[0], True, True]
    )
    if wanted[0]:
        scale = inverse if weight is None else inverse * weight
        frame, into = region.crop(x), region.crop(of_input)
        # d mean and d variance: each pixel of the frame has a share of 1 / count in both.
        share = scale / (frame.numel() // frame.shape[1])
        change = (frame - mean.view(-1, 1, 1)).mul_((inverse * of_weight).view(-1, 1, 1))
        change.add_(of_bias.view(-1, 1, 1)).mul_(share.view(-1, 1, 1))
        into.sub_(change)
    return of_input, of_weight if wanted[1] else None, of_bias if wanted[2] else None


class _FrameBatchNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, weight, bias, eps, region):
        x = x.contiguous()
        y, statistics = frame_norm_forward(x, weight, bias, eps, region)
        ctx.save_for_backward(x, weight, *statistics)
        ctx.region = region
        return y

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad):
        x, weight, mean, inverse = ctx.saved_tensors
        # Torch's kernel wants both in memory in the same order, strides of size 1 included.
        grad, x = (t.reshape(-1).view(t.shape) for t in (grad, x))
        statistics = FrameStatistics(mean, inverse)
        wanted = list(ctx.needs_input_grad[:3])
        gradients = frame_norm_backward(grad, x, weight, statistics, ctx.region, wanted)
        return *gradients, None, None


def frame_batch_norm(
    x: Tensor, weight: Optional[Tensor], bias: Optional[Tensor], eps: float, region: FrameRegion
) -> Tensor:
    """The same as one differentiable function. Arguments as of ``frame_norm_forward``."""
    return _FrameBatchNorm.apply(x, weight, bias, eps, region)
