"""Convolution with a frozen kernel, whose backward pass needs the kernel but not the input."""

from collections.abc import Sequence
from itertools import product
from typing import Optional

import torch
import torch.nn.functional as F
from torch import Tensor

from .backward import of_backward
from .matrix_product import is_pointwise, product_over_pixels
from .spans import spans
from .winograd import is_faster, winograd_input_gradient, winograd_weight_gradient

# Elements that one step shifts; they stay in the cache.
_SHIFTED = 2**19


def conv_input_gradient(
    grad: Tensor,
    weight: Tensor,
    shape: Sequence[int],
    stride: Sequence[int] = (1, 1),
    padding: Sequence[int] = (0, 0),
    dilation: Sequence[int] = (1, 1),
    groups: int = 1,
    into: Optional[Tensor] = None,
    workspace: int = 2**22,
) -> Tensor:
    """The gradient of ``F.conv2d`` with respect to its input.

    Args:
        grad: (N, Co, H', W'), with respect to the output.
        weight: (Co, Ci / groups, kh, kw).
        shape: (N, Ci, H, W), of the input.
        stride, padding, dilation, groups: As in the forward pass, pairs of numbers.
        into: (N, Ci, H, W), contiguous: the gradient is added to it; None creates a new tensor.
        workspace: Elements of a temporary, if the sum is computed in pieces.

    Returns:
        (N, Ci, H, W); ``into`` if given.
    """
    out_channels, in_channels = weight.shape[0], shape[1]
    stride, padding, dilation = tuple(stride), tuple(padding), tuple(dilation)
    if is_pointwise(weight.shape, stride, padding, groups):
        kernel = weight.view(out_channels, in_channels).t()
        return product_over_pixels(kernel, grad, into, workspace)
    if is_faster(weight.shape, stride, padding, dilation, groups, weight.device.type):
        return winograd_input_gradient(grad, weight, dilation[0], into, workspace)
    if into is None:
        return _autograd_input(grad, weight, shape, stride, padding, dilation, groups)
    for i in _channel_pieces(shape, workspace, groups, grad.device):
        if groups == 1:
            piece = (weight[:, i], grad, 1)
        else:
            per_group = weight.shape[1]
            o = slice(
                i.start // per_group * out_channels // groups,
                i.stop // per_group * out_channels // groups,
            )
            piece = (weight[o], grad[:, o], (i.stop - i.start) // per_group)
        size = (shape[0], i.stop - i.start, *shape[2:])
        into[:, i] += _autograd_input(piece[1], piece[0], size, stride, padding, dilation, piece[2])
    return into


def summed_input_gradient(grad: Tensor, weight: Tensor, shape, stride, padding, dilation) -> Tensor:
    """``conv_input_gradient`` of an ungrouped convolution, summed over the input's pixels.

    This is the gradient of a spatially constant input. Each tap of the kernel needs only the sum
    of the output gradients that use this tap inside the map.

    Args:
        grad, weight, shape, stride, padding, dilation: See ``conv_input_gradient``.

    Returns:
        (N, Ci, 1, 1).
    """

    def reading(axis: int, tap: int) -> slice:
        """The outputs for which this tap reads a pixel of the map and not the zero padding."""
        ahead = padding[axis] - tap * dilation[axis]
        last = (shape[2 + axis] - 1 + ahead) // stride[axis]
        return slice(max(0, -(-ahead // stride[axis])), max(0, last + 1))

    total = grad.new_zeros(shape[0], shape[1])
    for j in range(weight.shape[3]):
        of_columns = grad[:, :, :, reading(1, j)].sum(dim=3)
        for i in range(weight.shape[2]):
            total.addmm_(of_columns[:, :, reading(0, i)].sum(dim=2), weight[:, :, i, j])
    return total[:, :, None, None]


def _channel_pieces(
    shape: Sequence[int], workspace: int, groups: int, device: torch.device
) -> tuple[slice, ...]:
    """Input channels in pieces of about ``workspace`` elements; whole groups only."""
    channels, per_group = shape[1], shape[1] // groups if groups > 1 else 1
    size = max(1, workspace // (shape[0] * shape[2] * shape[3]) // per_group) * per_group
    return spans(channels, size, device)


def _autograd_input(grad, weight, shape, stride, padding, dilation, groups) -> Tensor:
    if groups == weight.shape[0] == shape[1] and stride == (1, 1):
        if all(2 * p == d * (k - 1) for p, d, k in zip(padding, dilation, weight.shape[2:])):
            return _depthwise_input(grad, weight, padding, dilation)
    return torchs_input_gradient(grad, weight, shape, stride, padding, dilation, groups)


def torchs_input_gradient(
    grad: Tensor,
    weight: Tensor,
    shape: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    groups: int,
    output_padding: Optional[Sequence[int]] = None,
) -> Tensor:
    """Torch's own gradient of a convolution with respect to its input.

    Args:
        grad, weight, shape, stride, padding, dilation, groups: See ``conv_input_gradient``.
        output_padding: Output padding of a transposed convolution; None for a plain one.

    Returns:
        (N, Ci, H, W).
    """
    return torch.ops.aten.convolution_backward(
        grad, grad.new_empty(1).expand(tuple(shape)), weight, None, list(stride), list(padding),
        list(dilation), output_padding is not None, list(output_padding or (0, 0)), groups,
        [True, False, False],
    )[0]  # fmt: skip


def _depthwise_input(grad: Tensor, weight: Tensor, padding, dilation) -> Tensor:
    """The input gradient of a depthwise 'same' convolution."""
    channels = weight.shape[0]
    if grad.device.type == 'cuda':
        # The transpose is a convolution with the flipped kernel; torch's forward is faster.
        return F.conv2d(grad, weight.flip(2, 3), None, 1, padding, dilation, channels)
    # A sum of shifted maps. On a CPU torch's kernel is slower, because it converts the memory
    # layout of the maps twice.
    total = torch.zeros_like(grad)
    height, width = grad.shape[2:]
    for c in spans(channels, _SHIFTED // max(1, grad[:, 0].numel()), grad.device):
        for i, j in product(*map(range, weight.shape[2:])):
            down, right = i * dilation[0] - padding[0], j * dilation[1] - padding[1]
            if abs(down) >= height or abs(right) >= width:
                continue
            part = grad[:, c, max(0, -down) : height - down, max(0, -right) : width - right]
            target = total[:, c, max(0, down) : height + down, max(0, right) : width + right]
            target.addcmul_(part, weight[c, :, i, j].view(-1, 1, 1))
    return total


def conv_weight_gradient(
    x: Tensor,
    grad: Tensor,
    kernel_size: Sequence[int],
    stride: Sequence[int] = (1, 1),
    padding: Sequence[int] = (0, 0),
    workspace: int = 2**22,
) -> Tensor:
    """The gradient of an ungrouped, undilated ``F.conv2d`` with respect to its kernel.

    Args:
        x: (N, Ci, H, W), the input.
        grad: (N, Co, H', W'), with respect to the output.
        kernel_size, stride, padding: As in the forward pass, pairs of numbers.
        workspace: Elements of a temporary.

    Returns:
        (Co, Ci, kh, kw).
    """
    shape = (grad.shape[1], x.shape[1], *kernel_size)
    kernel = grad.new_empty(1).expand(shape)
    if is_faster(kernel.shape, tuple(stride), tuple(padding), (1, 1), 1, grad.device.type):
        return winograd_weight_gradient(x, grad, 1, workspace)
    return torch.ops.aten.convolution_backward(
        grad, x, kernel, None, list(stride), list(padding), [1, 1], False, [0, 0], 1,
        [False, True, False],
    )[1]  # fmt: skip


class _PointwiseConv2d(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, weight):
        ctx.save_for_backward(weight)
        ctx.shape = tuple(x.shape)
        return product_over_pixels(weight.view(weight.shape[:2]), x)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad):
        (weight,) = ctx.saved_tensors
        return conv_input_gradient(grad.contiguous(), weight, ctx.shape), None


def pointwise_conv2d(x: Tensor, weight: Tensor) -> Tensor:
    """A 1x1 convolution with a frozen kernel, as matrix products over some pixels at a time.

    Args:
        x: (N, Ci, H, W), contiguous; the gradient flows to x alone.
        weight: (Co, Ci, 1, 1).

    Returns:
        (N, Co, H, W).
    """
    return _PointwiseConv2d.apply(x, weight)


class _FrozenConv2d(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, weight, bias, stride, padding, dilation, groups):
        ctx.save_for_backward(weight)
        ctx.options = (tuple(x.shape), stride, padding, dilation, groups)
        return F.conv2d(x, weight, bias, stride, padding, dilation, groups)

    @staticmethod
    @of_backward
    def backward(ctx, grad):
        (weight,) = ctx.saved_tensors
        # Torch's own kernels sum 16-bit dtypes in float32.
        narrow = grad.element_size() < 4
        gradient = torchs_input_gradient if narrow else conv_input_gradient
        return gradient(grad.contiguous(), weight, *ctx.options), None, None, None, None, None, None


def frozen_conv2d(
    x: Tensor,
    weight: Tensor,
    bias: Optional[Tensor] = None,
    stride: Sequence[int] = (1, 1),
    padding: Sequence[int] = (0, 0),
    dilation: Sequence[int] = (1, 1),
    groups: int = 1,
) -> Tensor:
    """``F.conv2d`` with a frozen kernel; keeps only a reference to the kernel.

    Plain autograd keeps the input even if the kernel needs no gradient.

    Args:
        x: (N, Ci, H, W); the gradient flows to x alone.
        weight: (Co, Ci / groups, kh, kw).
        bias: (Co,) or None.
        stride, padding, dilation: Pairs of numbers.
        groups: Number of channel groups.
    """
    return _FrozenConv2d.apply(x, weight, bias, stride, padding, dilation, groups)
