"""Norms whose scale and shift are frozen."""

import torch
import torch.nn.functional as F
from torch import Tensor

from .mode import frozen, of_backward, register_rule


class _AffineNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, mean, var, weight, bias, eps):
        scale = torch.rsqrt(var + eps)
        ctx.save_for_backward(scale if weight is None else scale.mul_(weight))
        return F.batch_norm(x, mean, var, weight, bias, False, 0.0, eps)

    @staticmethod
    @of_backward
    def backward(ctx, grad):
        (scale,) = ctx.saved_tensors
        by_channel = (-1, *(1 for _ in grad.shape[2:]))
        # In the precision of the scale, which under autocast has twice the width.
        return (grad * scale.view(by_channel)).to(grad.dtype), None, None, None, None, None


@register_rule(F.batch_norm)
def batch_norm(
    input, running_mean, running_var, weight=None, bias=None, training=False, momentum=0.1, eps=1e-5
) -> Tensor:
    """Rule for ``F.batch_norm`` by given statistics with frozen parameters. Keeps C numbers.

    Nothing is kept of the input: the gradient is multiplied by the scale of each channel.
    """
    if training or not frozen(running_mean, running_var, weight, bias):
        return NotImplemented
    return _AffineNorm.apply(input, running_mean, running_var, weight, bias, eps)
