"""The frame BatchNorm of a meta network on a piece of its channels, without autograd."""

import torch
from torch import Tensor, nn

from ..lean.autograd_ops.frame_norm import (
    FrameStatistics,
    frame_norm_backward,
    frame_norm_forward,
)


def statistics_norm(norm: nn.Module, x: Tensor, channels: slice) -> tuple[Tensor, FrameStatistics]:
    """Normalises some channels by the frame's statistics; returns the result and the statistics."""
    if norm.region is not None:
        weight, bias = norm.weight[channels], norm.bias[channels]
        return frame_norm_forward(x, weight, bias, norm.eps, norm.region)
    y, *statistics = torch.native_batch_norm(
        x, norm.weight[channels], norm.bias[channels], None, None, True, 0.0, norm.eps
    )
    return y, FrameStatistics(*statistics)


def norm_backward(norm, channels: slice, grad, x, statistics, wanted: list[bool]):
    """The ``wanted`` ones of the gradients of ``statistics_norm`` by input, scale and shift."""
    if norm.region is not None:
        weight = norm.weight[channels]
        return frame_norm_backward(grad, x, weight, statistics, norm.region, wanted)
    return torch.ops.aten.native_batch_norm_backward(
        grad, x, norm.weight[channels], None, None, *statistics, True, norm.eps, wanted
    )


def normed_again(norm, channels: slice, x: Tensor, statistics: FrameStatistics) -> Tensor:
    """Normalises the input again by known statistics; equal up to rounding."""
    mean, inverse = statistics
    scale = norm.weight[channels] * inverse
    shift = norm.bias[channels] - mean * scale
    return torch.mul(x, scale.view(-1, 1, 1)).add_(shift.view(-1, 1, 1))
