"""The number of channels of a model's frames."""

from torch import nn


def input_channels(module: nn.Module) -> int:
    """Input channels of the first convolution of a backbone or segmentor; 3 if it has none."""
    for part in module.modules():
        if isinstance(part, nn.Conv2d):
            return part.in_channels
    return 3
