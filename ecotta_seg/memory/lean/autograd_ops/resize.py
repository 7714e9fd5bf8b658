"""Bilinear resizing as in mmseg's ``resize``; its backward pass needs only the sizes."""

from collections.abc import Sequence

import torch
from torch import Tensor


def resize_bilinear(x: Tensor, size: Sequence[int], align_corners: bool) -> Tensor:
    """(N, C, h, w) to (N, C, H, W), by ``F.interpolate(mode='bilinear')``."""
    return torch.nn.functional.interpolate(
        x, tuple(size), mode='bilinear', align_corners=align_corners
    )


def resize_input_gradient(grad: Tensor, shape: Sequence[int], align_corners: bool) -> Tensor:
    """The gradient of ``resize_bilinear`` with respect to its input.

    Args:
        grad: (N, C, H, W), with respect to the output.
        shape: (N, C, h, w), of the input.
        align_corners: As in the forward pass.
    """
    if tuple(grad.shape) == tuple(shape):
        return grad
    return torch.ops.aten.upsample_bilinear2d_backward(
        grad, list(grad.shape[2:]), list(shape), align_corners, None, None
    )


class _FrozenResize(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, size, align_corners):
        ctx.options = (tuple(x.shape), align_corners)
        return resize_bilinear(x, size, align_corners)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad):
        return resize_input_gradient(grad.contiguous(), *ctx.options), None, None


def frozen_resize(x: Tensor, size: Sequence[int], align_corners: bool = False) -> Tensor:
    """``resize_bilinear``, differentiable once; keeps nothing.

    Args:
        x: (N, C, h, w).
        size: (H, W).
        align_corners: See ``F.interpolate``.
    """
    return _FrozenResize.apply(x, size, align_corners)
