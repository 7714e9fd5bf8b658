"""3x3 convolutions, their forward and both gradients, with a quarter of the multiplications.

Winograd's minimal filtering F(4x4, 3x3) (Lavin and Gray, arXiv 1509.09308) computes a 3x3
convolution as 36 matrix products over tiles of 6x6. The interpolation points are 0, ±3/4, ±4/3. The
relative rounding error is of order 1e-6 in float32, larger than that of the direct sum. The
backward pass is linear, so it has only this rounding error. In a forward pass, the rounding moves a
few pre-activations across zero, so that the next ReLU passes other elements than after the direct
sum. The backward pass must therefore use the ReLUs of the same forward pass. The meta networks
belong to this package, so their convolutions may have this rounding error. The frozen model's
convolutions have it only if a config requests it (see ``frozen_graph/fast_conv.py``).

Letters: N frames, Ci and Co channels, d dilation, m = 4 outputs and n = 6 inputs per tile side,
T tiles.
"""

from functools import lru_cache
from typing import Optional

import torch
from torch import Tensor

from .matrix_product import Pair
from .spans import spans
from .winograd_tiles import INPUTS, KERNEL, Scratch, Tiles, transforms

# Minimum channels on the narrower and on the wider side for which tiling is faster; measured on a
# CPU with AVX-512.
_FEW, _MANY = 128, 256


@lru_cache(maxsize=1024)
def is_faster(
    shape: torch.Size, stride: Pair, padding: Pair, dilation: Pair, groups: int, device: str
) -> bool:
    """Whether these functions apply (3x3, stride 1, 'same' padding, one group) and are worthwhile.

    On a CPU they must be faster than the direct sum. On CUDA their advantage is bounded memory:
    cuDNN can take a workspace of gigabytes for the float32 gradient of such a convolution.

    Args:
        shape: (Co, Ci / groups, kh, kw), the shape of the kernel.
        stride, padding, dilation: Geometry of the convolution, as pairs of numbers.
        groups: Number of channel groups.
        device: The type of the kernel's device.
    """
    few, many = sorted(shape[:2])
    return (
        tuple(shape[2:]) == (KERNEL, KERNEL)
        and groups == 1
        and stride == (1, 1)
        and dilation[0] == dilation[1]
        and padding == dilation
        and device in ('cpu', 'cuda', 'meta')
        and few >= _FEW
        and many >= _MANY
    )


def _pieces(channels: int, elements_each: int, workspace: int, x: Tensor) -> tuple[slice, ...]:
    """Channels in even pieces of about ``workspace`` elements, in multiples of 16 if many."""
    size = max(16, workspace // max(1, elements_each))
    size = -(-channels // -(-channels // size))
    return spans(channels, min(channels, -(-size // 16) * 16), x.device)


def winograd_conv2d(
    x: Tensor, weight: Tensor, dilation: int = 1, workspace: int = 7 * 2**20
) -> Tensor:
    """Computes a 3x3 'same' convolution.

    The rounding differs from the direct sum's. Do not use this function if the exact bits of a
    trained layer are needed.

    Args:
        x: (N, Ci, H, W).
        weight: (Co, Ci, 3, 3).
        dilation: d.
        workspace: See ``winograd_input_gradient``.

    Returns:
        (N, Co, H, W).
    """
    return _convolve(x, weight, False, dilation, None, workspace)


def winograd_input_gradient(
    grad: Tensor,
    weight: Tensor,
    dilation: int = 1,
    into: Optional[Tensor] = None,
    workspace: int = 2**22,
) -> Tensor:
    """The gradient of a 3x3 'same' convolution with respect to its input.

    Args:
        grad: (N, Co, H, W), with respect to the output.
        weight: (Co, Ci, 3, 3).
        dilation: d.
        into: (N, Ci, H, W), the gradient is added to it; None creates a new tensor.
        workspace: Maximum elements of each of the three temporaries. A smaller workspace means
            more passes and a different order of summation.

    Returns:
        (N, Ci, H, W).
    """
    return _convolve(grad, weight, True, dilation, into, workspace)


def _convolve(
    x: Tensor,
    weight: Tensor,
    transposed: bool,
    dilation: int,
    into: Optional[Tensor],
    workspace: int,
) -> Tensor:
    """Convolves (N, C, H, W) with a kernel (Co, Ci, 3, 3), or with its transpose."""
    tiles = Tiles(x.shape[0], *x.shape[2:], dilation)
    to_output, to_kernel, to_tile = transforms(x.dtype, x.device)
    if transposed:
        # Flips the kernel.
        to_kernel = to_kernel.flip(1)
    scratch, each = Scratch(x), INPUTS * INPUTS
    out_channels = weight.shape[1 if transposed else 0]
    fresh = into is None
    if fresh:
        into = x.new_empty(x.shape[0], out_channels, *x.shape[2:])
    for read in _pieces(x.shape[1], each * tiles.count, workspace, x):
        values = tiles.transformed(x[:, read], to_tile, scratch, 'values', overlap=True)
        count = values.shape[0]
        for write in _pieces(out_channels, each * max(count, tiles.count), workspace, x):
            piece = weight[read, write] if transposed else weight[write, read]
            kernel = scratch.take('kernel', each, piece.shape[0] * piece.shape[1])
            torch.mm(to_kernel, piece.reshape(-1, KERNEL * KERNEL).t(), out=kernel)
            kernel = kernel.view(each, *piece.shape[:2])
            if transposed:
                kernel = kernel.transpose(1, 2)
            product = scratch.take('product', each, kernel.shape[1], tiles.count)
            torch.bmm(kernel, values.transpose(0, 1), out=product)
            tiles.put(product, to_output, into[:, write], fresh, scratch)
        fresh = False
    return into


def winograd_weight_gradient(
    x: Tensor, grad: Tensor, dilation: int = 1, workspace: int = 2**22
) -> Tensor:
    """The gradient of a 3x3 'same' convolution with respect to its kernel.

    Args:
        x: (N, Ci, H, W), the input.
        grad: (N, Co, H, W), with respect to the output.
        dilation: d.
        workspace: See ``winograd_input_gradient``.

    Returns:
        (Co, Ci, 3, 3).
    """
    in_channels, out_channels = x.shape[1], grad.shape[1]
    tiles = Tiles(x.shape[0], *x.shape[2:], dilation)
    to_output, to_kernel, to_tile = transforms(grad.dtype, grad.device)
    scratch, each = Scratch(grad), INPUTS * INPUTS
    gradient = grad.new_empty(out_channels, in_channels, KERNEL, KERNEL)
    for o in _pieces(out_channels, each * tiles.count, workspace, x):
        outputs = tiles.transformed(grad[:, o], to_output.t(), scratch, 'outputs', overlap=False)
        count = outputs.shape[0]
        for i in _pieces(in_channels, each * max(count, tiles.count), workspace, x):
            values = tiles.transformed(x[:, i], to_tile, scratch, 'values', overlap=True)
            product = scratch.take('product', each, count, values.shape[0])
            torch.bmm(outputs.transpose(0, 1), values.permute(1, 2, 0), out=product)
            kernel = torch.mm(product.view(each, -1).t(), to_kernel)
            gradient[o, i] = kernel.view(count, -1, KERNEL, KERNEL)
            del kernel
    return gradient


class _WinogradConv2d(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, weight, dilation):
        # Only the kernel's gradient needs the input.
        ctx.save_for_backward(x if ctx.needs_input_grad[1] else None, weight)
        ctx.dilation = dilation
        return winograd_conv2d(x, weight, dilation)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad):
        x, weight = ctx.saved_tensors
        grad = grad.contiguous()
        wanted = ctx.needs_input_grad
        of_x = winograd_input_gradient(grad, weight, ctx.dilation) if wanted[0] else None
        of_weight = winograd_weight_gradient(x, grad, ctx.dilation) if wanted[1] else None
        return of_x, of_weight, None


def conv3x3(x: Tensor, weight: Tensor, dilation: int = 1) -> Tensor:
    """``winograd_conv2d``, differentiable once; keeps its input unless the kernel is frozen.

    Args:
        x: (N, Ci, H, W).
        weight: (Co, Ci, 3, 3).
        dilation: d.
    """
    return _WinogradConv2d.apply(x, weight, dilation)
