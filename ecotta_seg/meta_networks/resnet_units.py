"""ResNet, ResNetV1c and ResNetV1d of every depth and output stride, as a row of blocks."""

from mmseg.models.backbones import ResNet
from torch import Tensor, nn

from ..frozen_graph import FrozenOperator, build_operator
from .units import EncoderUnits, UnitShape, register_units


@register_units(ResNet)
class ResNetUnits(EncoderUnits):
    """The residual blocks of a ResNet; the stem is its convolutions and max pooling."""

    def _blocks(self) -> list[tuple[int, nn.Module]]:
        return [
            (stage, block)
            for stage, name in enumerate(self.backbone.res_layers)
            for block in getattr(self.backbone, name)
        ]

    def describe(self) -> list[UnitShape]:
        """See base class. The stride is read off the block, so dilated nets come out right."""
        blocks = self._blocks()
        shapes = []
        for index, (stage, block) in enumerate(blocks):
            last_conv = block.conv3 if hasattr(block, 'conv3') else block.conv2
            shapes.append(
                UnitShape(
                    in_channels=block.conv1.in_channels,
                    out_channels=last_conv.out_channels,
                    stride=block.stride,
                    stage=stage,
                    ends_stage=index + 1 == len(blocks) or blocks[index + 1][0] != stage,
                )
            )
        return shapes

    def stem(self, image: Tensor) -> Tensor:
        """See base class; (N, 3, H, W) to (N, C, ceil(H/4), ceil(W/4))."""
        backbone = self.backbone
        if backbone.deep_stem:
            x = backbone.stem(image)
        else:
            x = backbone.relu(backbone.norm1(backbone.conv1(image)))
        return backbone.maxpool(x)

    def run(self, index: int, x: Tensor) -> Tensor:
        """See base class."""
        return self._blocks()[index][1](x)

    def first_modules(self, count: int) -> list[nn.Module]:
        """See base class."""
        backbone = self.backbone
        stem = [backbone.stem] if backbone.deep_stem else [backbone.conv1, backbone.norm1]
        return [*stem, *(block for _, block in self._blocks()[:count])]

    def operator(self, index: int) -> FrozenOperator:
        """See base class."""
        return build_operator(self._blocks()[index][1], f'block {index + 1}')
