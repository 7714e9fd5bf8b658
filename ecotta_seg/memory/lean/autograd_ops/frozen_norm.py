"""Norms with frozen parameters: an affine map, and a LayerNorm that keeps only its input."""

from collections.abc import Sequence
from typing import Optional

import torch
import torch.nn.functional as F
from torch import Tensor

from .backward import of_backward


class _FrozenAffineNorm(torch.autograd.Function):
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
        # Computed in the dtype of the scale, which is wider than that of the gradient under
        # autocast.
        return (grad * scale.view(by_channel)).to(grad.dtype), None, None, None, None, None


def frozen_affine_norm(
    x: Tensor,
    mean: Tensor,
    var: Tensor,
    weight: Optional[Tensor] = None,
    bias: Optional[Tensor] = None,
    eps: float = 1e-5,
) -> Tensor:
    """``F.batch_norm`` in evaluation mode with frozen parameters; keeps C numbers.

    Plain autograd keeps the whole input for gradients of parameters, even if these are frozen.
    The gradient flows to ``x`` alone.

    Args:
        x: (N, C, H, W), (N, C) or (N, C, L).
        mean, var: (C,), constants.
        weight, bias: (C,) or None.
        eps: Added to the variance.
    """
    return _FrozenAffineNorm.apply(x, mean, var, weight, bias, eps)


def layer_norm_input_gradient(
    grad: Tensor, x: Tensor, shape: Sequence[int], weight, bias, eps: float
) -> Tensor:
    """The gradient of ``F.layer_norm`` with respect to its input, with recomputed statistics.

    Args:
        grad: Shaped as the output, (..., *shape).
        x: The input of the forward pass.
        shape: The normalised dimensions.
        weight, bias: Tensors of shape ``shape``, or None.
        eps: As in the forward pass.
    """
    _, mean, rstd = torch.native_layer_norm(x, shape, weight, bias, eps)
    return torch.ops.aten.native_layer_norm_backward(
        grad, x, shape, mean, rstd, weight, bias, [True, False, False]
    )[0]


class _FrozenLayerNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, shape, weight, bias, eps):
        ctx.save_for_backward(x, weight, bias)
        ctx.shape, ctx.eps = shape, eps
        return torch.nn.functional.layer_norm(x, shape, weight, bias, eps)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad):
        x, weight, bias = ctx.saved_tensors
        gradient = layer_norm_input_gradient(grad, x, ctx.shape, weight, bias, ctx.eps)
        return gradient, None, None, None, None


def frozen_layer_norm(x: Tensor, shape: Sequence[int], weight, bias, eps: float = 1e-5) -> Tensor:
    """``F.layer_norm`` with frozen parameters; keeps only its input.

    Args:
        x: (..., *shape); the gradient flows to x alone.
        shape: The normalised dimensions.
        weight, bias: Tensors of shape ``shape``, or None.
        eps: Added to the variance.
    """
    return _FrozenLayerNorm.apply(x, list(shape), weight, bias, eps)
