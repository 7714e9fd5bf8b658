"""Faster wide convolutions of a frozen model on a CPU, if a config requests them."""

from abc import abstractmethod

import torch
from mmcv.cnn.bricks.wrappers import Conv2d as WrappedConv2d
from torch import Tensor, nn

from ..lean.autograd_ops.autocast import under_autocast
from ..lean.autograd_ops.frozen_conv import pointwise_conv2d
from ..lean.autograd_ops.matrix_product import has_onednn, is_pointwise
from ..lean.autograd_ops.winograd import conv3x3, is_faster


class FastConv2d(nn.Conv2d):
    """Replaces a frozen convolution, with the same parameters and state-dict names.

    The order of summation differs from torch's, so the last bits of the output differ. Torch's
    convolution runs in three cases: in training mode, if the kernel is trainable, and under
    autocast, whose precision is too low for these sums.

    Args:
        source: The convolution to replace; its parameters are shared.
    """

    def __init__(self, source: nn.Conv2d) -> None:
        super().__init__(
            source.in_channels, source.out_channels, source.kernel_size, source.stride,
            source.padding, source.dilation, source.groups, source.bias is not None,
            device='meta',
        )  # fmt: skip
        self.weight, self.bias = source.weight, source.bias

    def forward(self, x: Tensor) -> Tensor:
        """(N, Ci, H, W) to (N, Co, H, W)."""
        # Checked at each call, because the model may have moved to another device.
        frozen = not self.training and not self.weight.requires_grad
        if not frozen or under_autocast(x) or not self.gains(self):
            return super().forward(x)
        y = self.convolve(x.contiguous())
        return y if self.bias is None else y + self.bias.view(-1, 1, 1)

    @abstractmethod
    def convolve(self, x: Tensor) -> Tensor:
        """Computes the convolution without the bias."""

    @staticmethod
    @abstractmethod
    def gains(conv: nn.Conv2d) -> bool:
        """Whether this layer is faster than ``conv``, a convolution with its own zero padding."""


class WinogradConv2d(FastConv2d):
    """A 3x3 convolution by Winograd's algorithm, faster in forward and backward.

    The output differs from the direct sum by a relative rounding error of order 1e-6 (float32).
    The temporaries take up to 84 MiB (float32) during a call.
    """

    def convolve(self, x: Tensor) -> Tensor:
        """See base class."""
        return conv3x3(x, self.weight, self.dilation[0])

    @staticmethod
    def gains(conv: nn.Conv2d) -> bool:
        """See base class."""
        geometry = (conv.stride, conv.padding, conv.dilation, conv.groups)
        return is_faster(conv.weight.shape, *geometry, conv.weight.device.type)


# Minimum channels on the narrower side for which a 1x1 convolution is faster as a matrix product,
# by oneDNN and by torch; measured on a CPU with AVX-512.
_SOME, _MANY = 32, 256


class PointwiseConv2d(FastConv2d):
    """A 1x1 convolution as a matrix product, see ``product_over_pixels``."""

    def convolve(self, x: Tensor) -> Tensor:
        """See base class."""
        return pointwise_conv2d(x, self.weight)

    @staticmethod
    def gains(conv: nn.Conv2d) -> bool:
        """See base class."""
        return (
            is_pointwise(conv.weight.shape, conv.stride, conv.padding, conv.groups)
            and conv.weight.device.type in ('cpu', 'meta')
            and min(conv.weight.shape[:2]) >= (_SOME if has_onednn(conv.weight) else _MANY)
        )


CONVOLUTIONS = (nn.Conv2d, WrappedConv2d, WinogradConv2d, PointwiseConv2d)


def is_plain_conv(module: nn.Module) -> bool:
    """Whether a module is a 2D convolution with its own zero padding."""
    return (
        type(module) in CONVOLUTIONS
        and module.padding_mode == 'zeros'
        and not isinstance(module.padding, str)
    )


def replace_convolutions(module: nn.Module) -> list[FastConv2d]:
    """Replaces every convolution inside a module by a ``FastConv2d``, if that is faster.

    Args:
        module: Changed in place.

    Returns:
        The new layers, in the order of ``named_modules``.
    """
    replaced = []
    for name, child in module.named_children():
        fast = _faster(child)
        if fast is not None:
            new = fast(child)
            new.train(child.training)
            setattr(module, name, new)
            replaced.append(new)
        else:
            replaced += replace_convolutions(child)
    return replaced


def _faster(module: nn.Module):
    if not is_plain_conv(module) or isinstance(module, FastConv2d):
        return None
    if module.weight.dtype not in (torch.float32, torch.float64):
        return None
    return next((kind for kind in (WinogradConv2d, PointwiseConv2d) if kind.gains(module)), None)
