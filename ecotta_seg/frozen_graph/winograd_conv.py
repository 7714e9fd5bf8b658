"""A frozen model's wide 3x3 convolutions by Winograd's filtering, where a config asks for it."""

import torch
from mmcv.cnn.bricks.wrappers import Conv2d as WrappedConv2d
from torch import Tensor, nn

from ..autograd_ops.autocast import under_autocast
from ..autograd_ops.winograd import conv3x3, pays


class WinogradConv2d(nn.Conv2d):
    """Stands in for a 3x3 convolution, with the same parameters and state-dict names.

    On a CPU it takes half the time, forward and backward; its output differs from the direct
    sum's by 1.5e-6 relative (2.4e-7 is the direct sum's own rounding). Memory: up to 84 MiB of
    temporaries (float32) while it runs.

    Args:
        source: The convolution to stand in for; its parameters are shared.
    """

    def __init__(self, source: nn.Conv2d) -> None:
        super().__init__(
            source.in_channels, source.out_channels, source.kernel_size, source.stride,
            source.padding, source.dilation, source.groups, source.bias is not None,
            device='meta',
        )  # fmt: skip
        self.weight, self.bias = source.weight, source.bias

    def forward(self, x: Tensor) -> Tensor:
        """(N, Ci, H, W) to (N, Co, H, W); under autocast by torch's own convolution, for the
        transforms would lose too much in eight bits."""
        if self.training or under_autocast(x):
            return super().forward(x)
        y = conv3x3(x.contiguous(), self.weight, self.dilation[0])
        return y if self.bias is None else y + self.bias.view(-1, 1, 1)


def replace_convolutions(module: nn.Module) -> list[WinogradConv2d]:
    """Puts a ``WinogradConv2d`` in the place of every convolution below that it is faster than.

    Args:
        module: Changed in place.

    Returns:
        The new layers, in the order of ``named_modules``.
    """
    replaced = []
    for name, child in module.named_children():
        if type(child) in (nn.Conv2d, WrappedConv2d) and _gains(child):
            new = WinogradConv2d(child)
            new.train(child.training)
            setattr(module, name, new)
            replaced.append(new)
        else:
            replaced += replace_convolutions(child)
    return replaced


def _gains(conv: nn.Conv2d) -> bool:
    return (
        conv.padding_mode == 'zeros'
        and not isinstance(conv.padding, str)
        and conv.weight.dtype in (torch.float32, torch.float64)
        and pays(conv.weight, conv.stride, conv.padding, conv.dilation, conv.groups)
    )
