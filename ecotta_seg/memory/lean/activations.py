"""Piecewise linear activations: one bit per element stores the linear piece of the element."""

import torch
import torch.nn.functional as F
from torch import Tensor

from .autograd_ops.backward import of_backward
from .autograd_ops.bit_mask import one_bit_relu, pack_positive, unpack
from .mode import frozen, register_rule


class _Leaky(torch.autograd.Function):
    """Returns x where x is above 0, else slope * x; slope is one number, or one per channel."""

    @staticmethod
    def forward(ctx, x, slope):
        per_channel = isinstance(slope, Tensor)
        ctx.slope = None if per_channel else slope
        ctx.save_for_backward(pack_positive(x.contiguous()), slope if per_channel else None)
        return F.prelu(x, slope) if per_channel else F.leaky_relu(x, slope)

    @staticmethod
    @of_backward
    def backward(ctx, grad):
        packed, slope = ctx.saved_tensors
        if slope is None:
            slope = ctx.slope
        elif slope.numel() > 1:
            slope = slope.view(-1, *(1 for _ in grad.shape[2:]))
        grad = grad.contiguous()
        return torch.where(unpack(packed, grad.shape), grad, grad * slope), None


@register_rule(F.relu)
def relu(input, inplace=False) -> Tensor:
    """Rule for ``F.relu``. Keeps one bit per element."""
    if inplace and input.is_leaf:
        return NotImplemented
    return one_bit_relu(input, inplace)


@register_rule(torch.relu, Tensor.relu)
def relu_of_tensor(input) -> Tensor:
    """Rule for ``torch.relu``. Keeps one bit per element."""
    return relu(input)


@register_rule(torch.relu_, Tensor.relu_)
def relu_in_place(input) -> Tensor:
    """Rule for ``torch.relu_``. Keeps one bit per element."""
    return relu(input, True)


@register_rule(F.relu6)
def relu6(input, inplace=False) -> Tensor:
    """Rule for ``F.relu6``. Keeps one bit per element."""
    return hardtanh(input, 0.0, 6.0, inplace)


@register_rule(F.hardtanh)
def hardtanh(input, min_val=-1.0, max_val=1.0, inplace=False) -> Tensor:
    """Rule for ``F.hardtanh`` from 0 to a positive number. Keeps one bit per element."""
    if min_val != 0 or max_val <= 0 or (inplace and input.is_leaf):
        return NotImplemented
    return one_bit_relu(input, inplace, max_val)


@register_rule(F.leaky_relu)
def leaky_relu(input, negative_slope=0.01, inplace=False) -> Tensor:
    """Rule for ``F.leaky_relu``. Keeps one bit per element."""
    return NotImplemented if inplace else _Leaky.apply(input, negative_slope)


@register_rule(torch.prelu)
def prelu(input, weight) -> Tensor:
    """Rule for ``torch.prelu`` with frozen slopes. Keeps one bit per element."""
    return _Leaky.apply(input, weight) if frozen(weight) and input.dim() > 1 else NotImplemented
