"""Convolutions with frozen kernels: the backward needs the kernel and the input's size."""

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.modules.utils import _pair

from .autocast import in_autocast_dtype
from .autograd_ops.backward import of_backward
from .autograd_ops.frozen_conv import frozen_conv2d, torchs_input_gradient
from .mode import frozen, register_rule


class _TransposedConvolution(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, weight, bias, stride, padding, output_padding, groups, dilation):
        ctx.save_for_backward(weight)
        ctx.options = (tuple(x.shape), stride, padding, dilation, groups, output_padding)
        return F.conv_transpose2d(
            x, weight, bias, stride, padding, output_padding, groups, dilation
        )

    @staticmethod
    @of_backward
    def backward(ctx, grad):
        (weight,) = ctx.saved_tensors
        gradient = torchs_input_gradient(grad.contiguous(), weight, *ctx.options)
        return gradient, None, None, None, None, None, None, None


@register_rule(torch.conv2d)
def conv2d(input, weight, bias=None, stride=1, padding=0, dilation=1, groups=1) -> Tensor:
    """Rule for ``torch.conv2d`` with a frozen kernel. Keeps only the kernel."""
    if not frozen(weight, bias) or isinstance(padding, str) or input.dim() != 4:
        return NotImplemented
    sizes = map(tuple, map(_pair, (stride, padding, dilation)))
    with in_autocast_dtype(input, weight, bias) as tensors:
        return frozen_conv2d(*tensors, *sizes, groups)


@register_rule(torch.conv_transpose2d)
def conv_transpose2d(
    input, weight, bias=None, stride=1, padding=0, output_padding=0, groups=1, dilation=1
) -> Tensor:
    """Rule for ``torch.conv_transpose2d`` with a frozen kernel. Keeps only the kernel."""
    if not frozen(weight, bias) or input.dim() != 4:
        return NotImplemented
    stride, padding, extra, dilation = (
        tuple(_pair(n)) for n in (stride, padding, output_padding, dilation)
    )
    with in_autocast_dtype(input, weight, bias) as tensors:
        return _TransposedConvolution.apply(*tensors, stride, padding, extra, groups, dilation)
