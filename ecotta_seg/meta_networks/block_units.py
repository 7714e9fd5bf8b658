"""Backbones that run their blocks in sequence, described by a list of the blocks."""

from abc import abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ..memory.frozen_graph import FrozenOperator, build_operator
from .input_channels import input_channels
from .units import EncoderUnits, UnitShape

# Pixels of the square frame on which channels and strides are measured.
_SIDE = 128


class BlockUnits(EncoderUnits):
    """A backbone that calls each block as ``block(x)``, (N, C, H, W) to (N, C', H', W').

    A subclass lists the modules of the stem and the blocks of each stage. Channels and strides are
    measured on one frame of zeros, so the subclass does not state them.

    Args:
        backbone: See base class. The constructor runs the backbone once, in evaluation mode and
            without gradients.
    """

    @abstractmethod
    def stem_modules(self) -> Sequence[nn.Module]:
        """The modules that turn the image into the first block's input, in order."""

    @abstractmethod
    def stages(self) -> Sequence[Sequence[nn.Module]]:
        """The blocks of each stage, in order. ``backbone.out_indices`` counts these stages."""

    def _blocks(self) -> list[tuple[int, nn.Module]]:
        return [(stage, block) for stage, blocks in enumerate(self.stages()) for block in blocks]

    @torch.no_grad()
    def describe(self) -> list[UnitShape]:
        """See base class. The geometry is measured on one frame of zeros."""
        modes = {module: module.training for module in self.backbone.modules()}
        self.backbone.eval()
        weight = next(self.backbone.parameters())
        x = self.stem(weight.new_zeros(1, input_channels(self.backbone), _SIDE, _SIDE))
        blocks, shapes = self._blocks(), []
        for index, (stage, block) in enumerate(blocks):
            y = block(x)
            shapes.append(
                UnitShape(
                    in_channels=x.shape[1],
                    out_channels=y.shape[1],
                    stride=round(x.shape[2] / y.shape[2]),
                    stage=stage,
                    ends_stage=index + 1 == len(blocks) or blocks[index + 1][0] != stage,
                )
            )
            x = y
        for module, training in modes.items():
            module.training = training
        return shapes

    def stem(self, image: Tensor) -> Tensor:
        """See base class."""
        for module in self.stem_modules():
            image = module(image)
        return image

    def run(self, index: int, x: Tensor) -> Tensor:
        """See base class."""
        return self._blocks()[index][1](x)

    def operator(self, index: int) -> FrozenOperator:
        """See base class."""
        return build_operator(self._blocks()[index][1], f'block {index + 1}')
