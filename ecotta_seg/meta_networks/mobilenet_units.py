"""MobileNetV2 of every width, as a sequence of inverted residual blocks."""

from mmseg.models.backbones import MobileNetV2
from torch import Tensor, nn

from .block_units import BlockUnits
from .units import register_units


@register_units(MobileNetV2)
class MobileNetV2Units(BlockUnits):
    """The inverted residuals of a MobileNetV2; the stem is its first convolution."""

    def stem_modules(self) -> list[nn.Module]:
        """See base class."""
        return [self.backbone.conv1]

    def stages(self) -> list[nn.Module]:
        """See base class."""
        return [getattr(self.backbone, name) for name in self.backbone.layers]

    def collect(self, outputs: list[Tensor]):
        """See base class. A MobileNetV2 returns a single output without a tuple."""
        return outputs[0] if len(outputs) == 1 else tuple(outputs)
