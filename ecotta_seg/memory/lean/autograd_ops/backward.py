"""Common code for the backwards of this package's autograd functions."""

from collections.abc import Callable
from functools import wraps

import torch
from torch import Tensor

from .autocast import under_autocast


def of_backward(backward: Callable) -> Callable:
    """Decorator of a ``Function``'s backward: differentiable once, in the gradient's precision.

    Torch runs the backward under the autocast around the call, which would cast matrix products.
    """

    @wraps(backward)
    def run(ctx, grad):
        if not under_autocast(grad):
            return backward(ctx, grad)
        with torch.autocast(grad.device.type, enabled=False):
            return backward(ctx, grad)

    return torch.autograd.function.once_differentiable(run)


def sized_like(grad: Tensor, shape: tuple[int, ...]) -> Tensor:
    """A tensor of the given shape that needs only the memory of one number.

    It is for torch's backward operators that read only the size of an input, not its values.
    """
    return grad.new_empty(1).expand(shape)
