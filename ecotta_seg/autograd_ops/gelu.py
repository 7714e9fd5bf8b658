"""GELU whose backward overwrites the incoming gradient."""

import torch
from torch import Tensor


def gelu_gradient_(grad: Tensor, x: Tensor, approximate: str = 'none') -> Tensor:
    """Multiplies ``grad`` in place by dGELU/dx at ``x``.

    Args:
        grad: As ``x``, with respect to GELU(x).
        x: Any shape.
        approximate: 'none' or 'tanh', as in ``F.gelu``.

    Returns:
        ``grad``.
    """
    # Where there is no data nothing is left to do, and torch 2.1 has no such operator.
    if not grad.is_meta:
        torch.ops.aten.gelu_backward.grad_input(grad, x, approximate=approximate, grad_input=grad)
    return grad


class _FrozenGELU(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, approximate):
        ctx.save_for_backward(x)
        ctx.approximate = approximate
        return torch.nn.functional.gelu(x, approximate=approximate)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad):
        (x,) = ctx.saved_tensors
        return gelu_gradient_(grad.clone(), x, ctx.approximate), None


def frozen_gelu(x: Tensor, approximate: str = 'none') -> Tensor:
    """``F.gelu``, differentiable once; keeps its input."""
    return _FrozenGELU.apply(x, approximate)
