"""Norms whose scale and shift are frozen."""

import torch.nn.functional as F
from torch import Tensor

from .autograd_ops.frozen_norm import frozen_affine_norm
from .mode import frozen, register_rule


@register_rule(F.batch_norm)
def batch_norm(
    input, running_mean, running_var, weight=None, bias=None, training=False, momentum=0.1, eps=1e-5
) -> Tensor:
    """Rule for ``F.batch_norm`` with given statistics and frozen parameters. Keeps C numbers.

    The input is not kept: the backward multiplies the gradient by the scale of each channel.
    """
    if training or not frozen(running_mean, running_var, weight, bias):
        return NotImplemented
    return frozen_affine_norm(input, running_mean, running_var, weight, bias, eps)
