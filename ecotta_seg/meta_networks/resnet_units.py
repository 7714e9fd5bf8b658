"""ResNet, ResNetV1c and ResNetV1d of every depth and output stride, as a sequence of blocks."""

from mmseg.models.backbones import ResNet
from torch import nn

from .block_units import BlockUnits
from .units import register_units


@register_units(ResNet)
class ResNetUnits(BlockUnits):
    """The residual blocks of a ResNet; the stem is its convolutions and max pooling."""

    def stem_modules(self) -> list[nn.Module]:
        """See base class."""
        backbone = self.backbone
        if backbone.deep_stem:
            return [backbone.stem, backbone.maxpool]
        return [backbone.conv1, backbone.norm1, backbone.relu, backbone.maxpool]

    def stages(self) -> list[nn.Module]:
        """See base class."""
        return [getattr(self.backbone, name) for name in self.backbone.res_layers]
