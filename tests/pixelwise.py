"""A segmentor in which no pixel sees another but through statistics.

On such a model padding can change the frame's prediction only if something measures the padding.
"""

import torch
from mmengine.config import ConfigDict
from mmseg.registry import MODELS
from torch import nn

from ecotta_seg.meta_networks import EncoderUnits, UnitShape, register_units
from tests.segmentors import NUM_CLASSES

_CHANNELS = 8


def _block(in_channels):
    convolution = nn.Conv2d(in_channels, _CHANNELS, 1, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(_CHANNELS), nn.ReLU())


@MODELS.register_module(name='PixelwiseBackbone')
class PixelwiseBackbone(nn.Module):
    """1x1 convolutions, BatchNorms and ReLUs; two stages of two blocks."""

    out_indices = (0, 1)

    def __init__(self):
        super().__init__()
        self.stem = _block(3)
        self.blocks = nn.ModuleList(_block(_CHANNELS) for _ in range(4))

    def forward(self, x):
        x, outputs = self.stem(x), []
        for index, block in enumerate(self.blocks):
            x = block(x)
            if index % 2:
                outputs.append(x)
        return tuple(outputs)


@register_units(PixelwiseBackbone)
class PixelwiseUnits(EncoderUnits):
    """The backbone's description, so that meta networks sit inside and the engine runs."""

    def describe(self):
        return [UnitShape(_CHANNELS, _CHANNELS, 1, i // 2, bool(i % 2)) for i in range(4)]

    def stem(self, image):
        return self.backbone.stem(image)

    def run(self, index, x):
        return self.backbone.blocks[index](x)


@MODELS.register_module(name='UndescribedPixelwise')
class UndescribedPixelwise(PixelwiseBackbone):
    """With a forward of its own, so that nobody has described the backbone."""

    def forward(self, x):
        return super().forward(x)


def pixelwise_segmentor(backbone, padding=None, **test_cfg):
    """A seeded segmentor in evaluation mode.

    Args:
        backbone: The name of one of the two.
        padding: The data preprocessor's ``test_cfg``; padded pixels are 1000 after normalisation.
        **test_cfg: Of the segmentor.
    """
    torch.manual_seed(0)
    segmentor = MODELS.build(
        ConfigDict(
            type='mmseg.EncoderDecoder',
            data_preprocessor=dict(
                type='mmseg.SegDataPreProcessor', mean=[120.0] * 3, std=[60.0] * 3,
                bgr_to_rgb=True, pad_val=1000, test_cfg=padding,
            ),
            backbone=dict(type=f'{backbone}'),
            decode_head=dict(
                type='mmseg.FCNHead', in_channels=_CHANNELS, in_index=1, channels=_CHANNELS,
                num_convs=1, kernel_size=1, concat_input=False, num_classes=NUM_CLASSES,
                norm_cfg=dict(type='BN'), align_corners=False,
                loss_decode=dict(type='mmseg.CrossEntropyLoss'),
            ),
            test_cfg=dict(dict(mode='whole'), **test_cfg),
        )
    )  # fmt: skip
    for module in segmentor.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.2)
            module.running_var.uniform_(0.6, 1.4)
    nn.init.normal_(segmentor.decode_head.conv_seg.weight, std=1.0)
    return segmentor.eval()
