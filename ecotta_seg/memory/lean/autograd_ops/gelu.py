"""GELU whose backward overwrites the incoming gradient, and a workaround for torch's own GELU."""

from functools import cache

import torch
from torch import Tensor, nn


def gelu_gradient_(grad: Tensor, x: Tensor, approximate: str = 'none') -> Tensor:
    """Multiplies ``grad`` in place by dGELU/dx at ``x``.

    Args:
        grad: The gradient with respect to GELU(x), in the shape of ``x``.
        x: Any shape; the same memory layout as ``grad``.
        approximate: 'none' or 'tanh', as in ``F.gelu``.

    Returns:
        ``grad``.
    """
    # Tensors without data need no computation, and torch 2.1 has no such operator for them.
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
        grad = torch.empty_like(x).copy_(grad)
        return gelu_gradient_(grad, x, ctx.approximate), None


def frozen_gelu(x: Tensor, approximate: str = 'none') -> Tensor:
    """``F.gelu``, differentiable once; keeps its input."""
    return _FrozenGELU.apply(x, approximate)


def mend_gelus(module: nn.Module) -> None:
    """Passes contiguous gradients to the GELUs of a model, if torch needs that.

    With oneDNN, the CPU backward of torch 2.1 leaves its result uninitialised if the input is
    contiguous and the gradient is a transposed map.

    Args:
        module: The module. Each of its GELUs gets a hook; a second call adds no second hook.
    """
    if not _needs_contiguous_gradients():
        return
    for child in module.modules():
        if isinstance(child, nn.GELU) and _order not in child._forward_hooks.values():
            child.register_forward_hook(_order)


def _order(module: nn.GELU, inputs: tuple, output: Tensor) -> None:
    if output.requires_grad:
        output.register_hook(Tensor.contiguous)


@cache
def _needs_contiguous_gradients() -> bool:
    x = torch.ones(1, 2, 3)
    grad, result = (torch.full((1, 3, 2), value).transpose(1, 2) for value in (1.0, torch.nan))
    torch.ops.aten.gelu_backward.grad_input(grad, x, grad_input=result)
    return bool(result.isnan().any())
