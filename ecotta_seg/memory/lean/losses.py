"""Losses of feature maps that keep bits in place of whole maps for the backward pass."""

import torch
import torch.nn.functional as F
from torch import Tensor

from .autograd_ops.backward import of_backward
from .autograd_ops.bit_mask import add_sign_, pack_positive
from .mode import frozen, register_rule


class _MeanDistance(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, target):
        difference = x - target
        ctx.shape = tuple(x.shape)
        signs = pack_positive(difference), pack_positive(difference.neg())
        ctx.save_for_backward(*signs)
        return difference.abs_().mean()

    @staticmethod
    @of_backward
    def backward(ctx, grad):
        positive, negative = ctx.saved_tensors
        signs = add_sign_(grad.new_zeros(ctx.shape), positive, negative, 1.0)
        return signs.mul_(grad / signs.numel()), None


@register_rule(F.l1_loss)
def l1_loss(input, target, size_average=None, reduce=None, reduction='mean') -> Tensor:
    """Rule for the mean ``F.l1_loss`` to a constant target. Keeps two bits per element."""
    usual = size_average is None and reduce is None and reduction == 'mean'
    if not usual or not frozen(target) or input.shape != target.shape:
        return NotImplemented
    if input.dtype != target.dtype:
        return NotImplemented
    return _MeanDistance.apply(input, target)
