"""BatchNorm by the statistics of the frame in a padded map, with gradients through the statistics.

Without padding, torch's own BatchNorm in training mode is equal and faster, and is used instead.
"""

from typing import NamedTuple, Optional

import torch
import torch.nn.functional as F
from torch import Tensor

from .frame_region import FrameRegion


class FrameStatistics(NamedTuple):
    """Statistics of a norm's input.

    Attributes:
        mean: (C,).
        inverse: (C,), 1 / sqrt(variance + eps).
    """

    mean: Tensor
    inverse: Tensor


def frame_statistics(
    x: Tensor, region: Optional[FrameRegion] = None
) -> Optional[tuple[Tensor, Tensor]]:
    """Mean and biased variance of each channel of (N, C, H, W): two (C,) tensors.

    The result is None if x is not a map, that is (N, C) or (N, C, L). It is also None if x has only
    one value per channel without the padding (ASPP's image pool at batch 1), because one value has
    no variance.

    bfloat16 (autocast) is converted to float32, because sums over a map need more precision.

    Args:
        x: (N, C, H, W).
        region: The part of x that the statistics cover; None for all of x.
    """
    if x.dim() != 4:
        return None
    if region is not None:
        # Contiguous, so that the sums equal those of the frame without padding, bit for bit.
        x = region.crop(x).contiguous()
    if x.numel() == x.shape[1]:
        return None
    x = x.to(torch.promote_types(x.dtype, torch.float32))
    if x.shape[0] == 1 and x.is_contiguous():
        # Two passes, which are faster on a CPU than BatchNorm's own kernel.
        values = x.view(x.shape[1], -1)
        mean = values.mean(dim=1)
        return mean, (values - mean[:, None]).square_().mean(dim=1)
    var, mean = torch.var_mean(x, dim=(0, 2, 3), correction=0)
    return mean, var


def frame_norm_forward(
    x: Tensor, weight: Optional[Tensor], bias: Optional[Tensor], eps: float, region: FrameRegion
) -> tuple[Tensor, FrameStatistics]:
    """Normalises a map, padding included, by the mean and variance without the padding.

    Args:
        x: (N, C, H, W).
        weight, bias: (C,) or None.
        eps: Added to the variance.
        region: The region that is not padding.

    Returns:
        (N, C, H, W), and the statistics that ``frame_norm_backward`` needs besides x.
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
    """Gradients of x, weight and bias, including the dependence of the statistics on x.

    Args:
        grad: (N, C, H, W), with respect to the output. The gradient in the padding counts, too,
            because a convolution may carry the output's padding into the frame.
        x: The input.
        weight: As in the forward pass.
        statistics: The statistics of the forward pass.
        region: As in the forward pass.
        wanted: Whether to compute each of the three.

    Returns:
        The gradients; None for each one that is not wanted.
    """
    mean, inverse = statistics
    # First with constant statistics; inverse ** -2 is the variance including eps.
    of_input, of_weight, of_bias = torch.ops.aten.native_batch_norm_backward(
        grad, x, weight, mean, inverse.pow(-2), None, None, False, 0.0, [wanted[0], True, True]
    )
    if wanted[0]:
        scale = inverse if weight is None else inverse * weight
        frame, into = region.crop(x), region.crop(of_input)
        # Then the gradients through mean and variance: each pixel that is not padding contributes 1
        # / count to both.
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
        # Torch's kernel needs equal strides of both, also for dimensions of size 1.
        grad, x = (t.reshape(-1).view(t.shape) for t in (grad, x))
        statistics = FrameStatistics(mean, inverse)
        wanted = list(ctx.needs_input_grad[:3])
        gradients = frame_norm_backward(grad, x, weight, statistics, ctx.region, wanted)
        return *gradients, None, None


def frame_batch_norm(
    x: Tensor, weight: Optional[Tensor], bias: Optional[Tensor], eps: float, region: FrameRegion
) -> Tensor:
    """Forward and backward as one differentiable function; arguments of ``frame_norm_forward``."""
    return _FrameBatchNorm.apply(x, weight, bias, eps, region)
