"""How many channels a model's frames have."""

from torch import nn


def input_channels(module: nn.Module) -> int:
    """The channels that the first convolution of a backbone or segmentor takes; 3 without one."""
    for part in module.modules():
        if isinstance(part, nn.Conv2d):
            return part.in_channels
    return 3
