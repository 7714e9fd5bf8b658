"""Convolution, BatchNorm and ReLU as one operator that keeps C numbers and one bit per element."""

from functools import lru_cache
from typing import Optional

import torch
from mmcv.cnn import ConvModule, DepthwiseSeparableConvModule
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from ..lean.autograd_ops.bit_mask import empty_flags, mask_, pack_positive
from ..lean.autograd_ops.frozen_conv import conv_input_gradient
from ..lean.autograd_ops.matrix_product import is_pointwise
from ..lean.autograd_ops.spans import spans
from .fast_conv import CONVOLUTIONS, is_plain_conv
from .operator import FrozenOperator, Sequence, Tape, add_into, build_operator, operator_for


def is_affine_norm(module: nn.Module) -> bool:
    """Whether a norm's backward is one scale per channel: BatchNorm with constant statistics."""
    if hasattr(module, 'statistics'):
        return not getattr(module, 'through_statistics', False)
    return isinstance(module, _BatchNorm) and module.track_running_stats


# Elements of a piece of the channels; a piece stays in the cache.
_PIECE = 2**20
# Elements of the map between a depthwise and a pointwise convolution. A larger map is slower,
# because the system must first provide its memory.
_BETWEEN = 2**22


@lru_cache(maxsize=1024)
def channel_pieces(
    shape: torch.Size, contiguous: bool, device: torch.device
) -> tuple[tuple[slice, slice], ...]:
    """Splits channels into pieces, each with the place of its flags in the packed bytes.

    If there are several frames, all channels form one piece, because a channel's values are not
    contiguous.

    Args:
        shape: (N, C, H, W), of the map.
        contiguous: Whether the map is contiguous.
        device: The device of the map.
    """
    frames, channels, pixels = shape[0], shape[1], shape[2] * shape[3]
    step = channels
    if frames == 1 and contiguous:
        # A multiple of 8 channels, so that each piece's flags begin at a byte.
        step = max(8, _PIECE // pixels // 8 * 8)
    return tuple(
        (c, slice(c.start * pixels // 8, -(-c.stop * pixels * frames // 8)))
        for c in spans(channels, step, device)
    )


class ConvUnit(FrozenOperator):
    """A convolution, its norm and its ReLU.

    Args:
        conv: A plain 2D convolution.
        norm: A norm that ``is_affine_norm`` accepts, or None.
        relu: Whether a ReLU follows.
    """

    def __init__(self, conv: nn.Module, norm: Optional[nn.Module] = None, relu: bool = False):
        self.conv, self.norm, self.relu = conv, norm, relu

    def forward(self, x: Tensor, tape: Optional[Tape] = None) -> Tensor:
        """See base class.

        Norm and ReLU work in place on the convolution's output, some channels at a time, so that
        each pass finds these channels in the cache.
        """
        y = self.conv(x)
        scale = y.new_empty(y.shape[1]) if self.norm is not None else None
        packed = empty_flags(y) if self.relu and tape is not None else None
        for c, flags in channel_pieces(y.shape, y.is_contiguous(), y.device):
            part = y[:, c]
            if scale is not None:
                scale[c] = self._normalise_(part, c)
            if self.relu:
                part.relu_()
            if packed is not None:
                pack_positive(part, packed[flags])
        if tape is not None:
            tape.append((tuple(x.shape), scale, packed))
        return y

    def _normalise_(self, x: Tensor, channels: slice) -> Tensor:
        """Applies the norm to some channels in place; equal to ``F.batch_norm``, bit for bit.

        Args:
            x: (N, C, H, W), overwritten with the result.
            channels: The slice of the norm's channels in x.

        Returns:
            The scale (C,). The backward needs only this: it multiplies the gradient by the scale.
            The statistics are constants.
        """
        norm = self.norm
        if hasattr(norm, 'statistics'):
            mean, var = norm.statistics(x, channels)
        else:
            mean, var = norm.running_mean[channels], norm.running_var[channels]
        weight = None if norm.weight is None else norm.weight[channels]
        bias = None if norm.bias is None else norm.bias[channels]
        # Tensors without data need no computation, and torch 2.1 has no such operator for them.
        if not x.is_meta:
            nothing = x.new_empty(0)
            torch.native_batch_norm(
                x, weight, bias, mean, var, False, 0.0, norm.eps,
                out=(x, nothing, x.new_empty(0)),
            )  # fmt: skip
        scale = torch.rsqrt(var + norm.eps)
        return scale if weight is None else scale.mul_(weight)

    def below_norm(self, grad: Tensor, tape: Tape) -> tuple[Tensor, Tensor, tuple[int, ...]]:
        """Propagates the gradient back through ReLU and norm.

        Returns:
            The gradient and the kernel for the convolution's backward, and the input's shape.
        """
        shape, scale, packed = tape.pop()
        if packed is not None:
            mask_(grad, packed)
        weight = self.conv.weight
        if scale is not None:
            # The smaller tensor is scaled; a kernel may be larger than its maps. A gradient that
            # was not masked must not change, because another operator may still need it.
            if packed is not None and weight.numel() > grad.numel():
                grad.mul_(scale.view(-1, 1, 1))
            else:
                weight = weight * scale.view(-1, 1, 1, 1)
        return grad, weight, shape

    def backward(self, grad: Tensor, tape: Tape, into: Optional[Tensor] = None) -> Tensor:
        """See base class."""
        grad, weight, shape = self.below_norm(grad, tape)
        conv = self.conv
        return conv_input_gradient(
            grad, weight, shape, conv.stride, conv.padding, conv.dilation, conv.groups, into,
            tape.workspace,
        )  # fmt: skip


def separable_backward(
    depthwise: FrozenOperator,
    pointwise: FrozenOperator,
    grad: Tensor,
    tape: Tape,
    into: Optional[Tensor] = None,
) -> Tensor:
    """The backward of a depthwise and then a pointwise convolution, some channels at a time.

    The map between the two is as large as the input; its gradient never exists as a whole. If the
    operators are not such a pair, their backwards run one after the other.

    Args:
        depthwise, pointwise: The operators, in the order of the forward pass.
        grad, tape, into: See ``FrozenOperator.backward``.
    """
    if grad.shape[0] > 1 or not _is_separable(depthwise, pointwise):
        return depthwise.backward(pointwise.backward(grad, tape), tape, into)
    grad, kernel, shape = pointwise.below_norm(grad, tape)
    in_shape, scale, packed = tape.pop()
    conv, pixels = depthwise.conv, shape[2] * shape[3]
    into = grad.new_zeros(in_shape) if into is None else into
    # A multiple of 8 channels, so that each piece's flags begin at a byte.
    step = max(8, min(tape.workspace, _BETWEEN) // pixels // 8 * 8)
    for c in spans(shape[1], step, grad.device):
        part = conv_input_gradient(grad, kernel[:, c], (1, c.stop - c.start, *shape[2:]))
        if packed is not None:
            mask_(part, packed[c.start * pixels // 8 : -(-c.stop * pixels // 8)])
        weight = conv.weight[c]
        if scale is not None:
            weight = weight * scale[c].view(-1, 1, 1, 1)
        into[:, c] += conv_input_gradient(
            part, weight, (1, c.stop - c.start, *in_shape[2:]), conv.stride, conv.padding,
            conv.dilation, c.stop - c.start,
        )  # fmt: skip
        del part, weight
    return into


def _is_separable(depthwise: FrozenOperator, pointwise: FrozenOperator) -> bool:
    if not isinstance(depthwise, ConvUnit) or not isinstance(pointwise, ConvUnit):
        return False
    first, second = depthwise.conv, pointwise.conv
    return first.groups == first.in_channels == first.out_channels and is_pointwise(
        second.weight.shape, second.stride, second.padding, second.groups
    )


class AveragePool(FrozenOperator):
    """The operator of an ``nn.AvgPool2d``; it keeps no tensor."""

    def __init__(self, pool: nn.AvgPool2d) -> None:
        self.pool = pool

    def forward(self, x: Tensor, tape: Optional[Tape] = None) -> Tensor:
        """See base class."""
        if tape is not None:
            tape.append(tuple(x.shape))
        return self.pool(x)

    def backward(self, grad: Tensor, tape: Tape, into: Optional[Tensor] = None) -> Tensor:
        """See base class."""
        pool, shape = self.pool, tape.pop()
        pair = torch.nn.modules.utils._pair
        gradient = torch.ops.aten.avg_pool2d_backward(
            grad, grad.new_empty(1).expand(shape), pair(pool.kernel_size), pair(pool.stride),
            pair(pool.padding), pool.ceil_mode, pool.count_include_pad, pool.divisor_override,
        )  # fmt: skip
        return add_into(gradient, into)


@operator_for(*CONVOLUTIONS)
def _conv(module: nn.Module) -> Optional[FrozenOperator]:
    return ConvUnit(module) if is_plain_conv(module) else None


@operator_for(nn.AvgPool2d)
def _average_pool(module: nn.AvgPool2d) -> FrozenOperator:
    return AveragePool(module)


@operator_for(ConvModule)
def _conv_module(module: ConvModule) -> Optional[FrozenOperator]:
    norm = module.norm if module.with_norm else None
    relu = module.with_activation
    if (
        not is_plain_conv(module.conv)
        or module.order != ('conv', 'norm', 'act')
        or module.with_explicit_padding
        or module.with_spectral_norm
        or getattr(module, 'efficient_conv_bn_eval_forward', None) is not None
        or (norm is not None and not is_affine_norm(norm))
        or (relu and type(module.activate) is not nn.ReLU)
    ):
        return None
    return ConvUnit(module.conv, norm, relu)


@operator_for(DepthwiseSeparableConvModule)
def _separable(module: DepthwiseSeparableConvModule) -> FrozenOperator:
    return Sequence([build_operator(module.depthwise_conv), build_operator(module.pointwise_conv)])


@operator_for(nn.Sequential)
def _sequential(module: nn.Sequential) -> FrozenOperator:
    """Sequences of modules; a plain convolution and the norm after it become one operator."""
    parts, row = [], list(module)
    while row:
        first = row.pop(0)
        if is_plain_conv(first) and row and is_affine_norm(row[0]):
            norm = row.pop(0)
            relu = bool(row) and type(row[0]) is nn.ReLU
            if relu:
                row.pop(0)
            parts.append(ConvUnit(first, norm, relu))
        else:
            parts.append(build_operator(first))
    return Sequence(parts)
