"""Pooling that keeps nothing for a mean, and one byte per window for a maximum."""

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.modules.utils import _pair

from .autograd_ops.backward import of_backward, sized_like
from .mode import register_rule


class _MaxPool(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, kernel, stride, padding, dilation, ceil_mode):
        options = [list(kernel), list(stride), list(padding), list(dilation), ceil_mode]
        y, indices = torch.ops.aten.max_pool2d_with_indices(x, *options)
        ctx.shape, ctx.options = tuple(x.shape), options
        ctx.save_for_backward(_taps(indices, x.shape[3], *options[:4]))
        return y

    @staticmethod
    @of_backward
    def backward(ctx, grad):
        (taps,) = ctx.saved_tensors
        indices = _indices(taps, ctx.shape[3], *ctx.options[:4])
        return torch.ops.aten.max_pool2d_with_indices_backward(
            grad.contiguous(), sized_like(grad, ctx.shape), *ctx.options, indices
        ), None, None, None, None, None  # fmt: skip


def _corners(shape, stride, padding, device) -> tuple[Tensor, Tensor]:
    """Row and column of the first tap of each window: (h, 1) and (w,)."""
    rows = torch.arange(shape[2], device=device) * stride[0] - padding[0]
    columns = torch.arange(shape[3], device=device) * stride[1] - padding[1]
    return rows[:, None], columns


def _taps(indices: Tensor, width: int, kernel, stride, padding, dilation) -> Tensor:
    """The position of each maximum inside its pooling window: (N, C, h, w) uint8."""
    top, left = _corners(indices.shape, stride, padding, indices.device)
    row = (indices.div(width, rounding_mode='floor') - top).div_(dilation[0], rounding_mode='floor')
    column = (indices.remainder(width) - left).div_(dilation[1], rounding_mode='floor')
    return row.mul_(kernel[1]).add_(column).to(torch.uint8)


def _indices(taps: Tensor, width: int, kernel, stride, padding, dilation) -> Tensor:
    """The inverse of ``_taps``: positions in the input, int64, (N, C, h, w)."""
    top, left = _corners(taps.shape, stride, padding, taps.device)
    taps = taps.long()
    row = taps.div(kernel[1], rounding_mode='floor').mul_(dilation[0]).add_(top)
    column = taps.remainder_(kernel[1]).mul_(dilation[1]).add_(left)
    return row.mul_(width).add_(column)


class _AveragePool(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, kernel, stride, padding, ceil_mode, count_include_pad, divisor):
        ctx.shape = tuple(x.shape)
        ctx.options = (
            list(kernel), list(stride), list(padding), ceil_mode, count_include_pad, divisor
        )  # fmt: skip
        return torch.ops.aten.avg_pool2d(x, *ctx.options)

    @staticmethod
    @of_backward
    def backward(ctx, grad):
        gradient = torch.ops.aten.avg_pool2d_backward(
            grad.contiguous(), sized_like(grad, ctx.shape), *ctx.options
        )
        return gradient, None, None, None, None, None, None


class _AdaptiveAveragePool(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, size):
        ctx.shape = tuple(x.shape)
        return F.adaptive_avg_pool2d(x, size)

    @staticmethod
    @of_backward
    def backward(ctx, grad):
        gradient = torch.ops.aten._adaptive_avg_pool2d_backward(
            grad.contiguous(), sized_like(grad, ctx.shape)
        )
        return gradient, None


@register_rule(torch.max_pool2d, F.max_pool2d)
def max_pool2d(
    input, kernel_size, stride=None, padding=0, dilation=1, ceil_mode=False, return_indices=False
) -> Tensor:
    """Rule for ``F.max_pool2d``. Keeps one byte per window."""
    kernel = _pair(kernel_size)
    if return_indices or input.dim() != 4 or kernel[0] * kernel[1] > 256:
        return NotImplemented
    stride = kernel if stride is None or stride == [] else _pair(stride)
    return _MaxPool.apply(input, kernel, stride, _pair(padding), _pair(dilation), ceil_mode)


@register_rule(F.avg_pool2d)
def avg_pool2d(
    input, kernel_size, stride=None, padding=0, ceil_mode=False, count_include_pad=True,
    divisor_override=None,
) -> Tensor:  # fmt: skip
    """Rule for ``F.avg_pool2d``. Keeps nothing."""
    if input.dim() != 4:
        return NotImplemented
    kernel = _pair(kernel_size)
    stride = kernel if stride is None or stride == [] else _pair(stride)
    return _AveragePool.apply(
        input, kernel, stride, _pair(padding), ceil_mode, count_include_pad, divisor_override
    )


@register_rule(F.adaptive_avg_pool2d)
def adaptive_avg_pool2d(input, output_size) -> Tensor:
    """Rule for ``F.adaptive_avg_pool2d``. Keeps nothing."""
    if input.dim() != 4:
        return NotImplemented
    return _AdaptiveAveragePool.apply(input, output_size)
