"""ESPNetv2 (Mehta et al., CVPR 2019, arXiv 1811.11431) as an mmseg backbone and decode head.

This file is the worked example of a network from outside: two registered classes, a converter of
the published weights' names, and nothing that this project has to know. The structure follows the
paper (Figures 1 and 3, Section 3) and the names in the published checkpoints.
"""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from mmengine.model import BaseModule
from mmseg.models.decode_heads.decode_head import BaseDecodeHead
from mmseg.registry import MODELS
from torch import Tensor, nn

# The largest receptive field of a unit's branches, by level (Section 4.1).
_RECEPTIVE_LIMITS = (13, 11, 9, 7)


class _ConvNormAct(nn.Module):
    """Convolution, BatchNorm and, if asked for, PReLU."""

    def __init__(self, inputs: int, outputs: int, size: int, stride=1, groups=1, act=True):
        super().__init__()
        padding = (size - 1) // 2
        self.conv = nn.Conv2d(inputs, outputs, size, stride, padding, groups=groups, bias=False)
        self.bn = nn.BatchNorm2d(outputs, eps=1e-5)
        self.act = nn.PReLU(outputs) if act else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.bn(self.conv(x)))


class _NormAct(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.bn = nn.BatchNorm2d(channels)
        self.act = nn.PReLU(channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.bn(x))


class _DilatedConv(nn.Module):
    def __init__(self, channels: int, stride: int, dilation: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(
            channels, channels, 3, stride, dilation, dilation, groups=channels, bias=False
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x)


class EESPUnit(nn.Module):
    """Extremely efficient spatial pyramid: reduce, four dilated depthwise branches that are summed
    one after the other, expand."""

    def __init__(self, inputs: int, outputs: int, limit: int, stride: int = 1, branches: int = 4):
        super().__init__()
        width = outputs // branches
        sizes = sorted(s if s <= limit else 3 for s in range(3, 3 + 2 * branches, 2))
        self.proj_1x1 = _ConvNormAct(inputs, width, 1, groups=branches)
        self.spp_dw = nn.ModuleList(_DilatedConv(width, stride, (s - 1) // 2) for s in sizes)
        self.conv_1x1_exp = _ConvNormAct(outputs, outputs, 1, groups=branches, act=False)
        self.br_after_cat = _NormAct(outputs)
        self.module_act = nn.PReLU(outputs)
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        reduced = self.proj_1x1(x)
        maps = [self.spp_dw[0](reduced)]
        for branch in self.spp_dw[1:]:
            maps.append(branch(reduced) + maps[-1])
        out = self.conv_1x1_exp(self.br_after_cat(torch.cat(maps, 1)))
        if self.stride == 2:
            return out
        return self.module_act(out + x if out.shape == x.shape else out)


class DownSampler(nn.Module):
    """A strided unit beside an average pool; the image itself is added at the lower size."""

    def __init__(self, inputs: int, outputs: int, limit: int) -> None:
        super().__init__()
        self.eesp = EESPUnit(inputs, outputs - inputs, limit, stride=2)
        self.inp_reinf = nn.Sequential(
            _ConvNormAct(3, 3, 3), _ConvNormAct(3, outputs, 1, act=False)
        )
        self.act = nn.PReLU(outputs)

    def forward(self, x: Tensor, image: Tensor) -> Tensor:
        pooled = F.avg_pool2d(x, 3, 2, 1)
        out = torch.cat([pooled, self.eesp(x)], 1)
        while image.shape[2] > pooled.shape[2]:
            image = F.avg_pool2d(image, 3, 2, 1)
        return self.act(out + self.inp_reinf(image))


@MODELS.register_module()
class ESPNetv2(BaseModule):
    """Four levels of maps at a half to a sixteenth of the image.

    Args:
        channels: Of the four levels.
    """

    def __init__(self, channels: Sequence[int] = (32, 64, 128, 256), init_cfg=None) -> None:
        super().__init__(init_cfg)
        one, two, three, four = channels
        limits = _RECEPTIVE_LIMITS
        self.level1 = _ConvNormAct(3, one, 3, 2)
        self.level2_0 = DownSampler(one, two, limits[0])
        self.level3_0 = DownSampler(two, three, limits[1])
        self.level3 = nn.ModuleList(EESPUnit(three, three, limits[2]) for _ in range(3))
        self.level4_0 = DownSampler(three, four, limits[2])
        self.level4 = nn.ModuleList(EESPUnit(four, four, limits[3]) for _ in range(7))

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """(N, 3, H, W) to four maps."""
        maps = [self.level1(image)]
        maps.append(self.level2_0(maps[-1], image))
        x = self.level3_0(maps[-1], image)
        for unit in self.level3:
            x = unit(x)
        maps.append(x)
        x = self.level4_0(x, image)
        for unit in self.level4:
            x = unit(x)
        return (*maps, x)


def _named(name: str, *modules: nn.Module) -> nn.Module:
    holder = nn.Module()
    holder.add_module(name, nn.Sequential(*modules))
    holder.forward = getattr(holder, name).forward
    return holder


def _conv_norm_act(inputs: int, outputs: int, size: int, groups: int = 1) -> nn.Module:
    conv = nn.Conv2d(inputs, outputs, size, 1, (size - 1) // 2, groups=groups, bias=False)
    return _named('cbr', conv, nn.BatchNorm2d(outputs), nn.PReLU(outputs))


def _norm_act(channels: int) -> nn.Module:
    return _named('br', nn.BatchNorm2d(channels), nn.PReLU(channels))


class PyramidPool(nn.Module):
    """Depthwise convolutions at five scales of one map, shuffled and merged."""

    scales = (2.0, 1.5, 1.0, 0.5, 0.1)

    def __init__(self, inputs: int, width: int, outputs: int, last: bool = False) -> None:
        super().__init__()
        count = len(self.scales)
        self.projection_layer = _conv_norm_act(inputs, width, 1)
        self.stages = nn.ModuleList(
            nn.Conv2d(width, width, 3, 1, 1, groups=width, bias=False) for _ in self.scales
        )
        self.merge_layer = nn.Sequential(
            _norm_act(width * count),
            nn.ChannelShuffle(count),
            _conv_norm_act(width * count, width, 3, groups=width),
            nn.Conv2d(width, outputs, 1, bias=last),
        )
        self.br = nn.Identity() if last else _norm_act(outputs)

    def forward(self, x: Tensor) -> Tensor:
        x = self.projection_layer(x)
        size = tuple(x.shape[2:])
        maps = []
        for scale, stage in zip(self.scales, self.stages):
            other = [max(math.ceil(side * scale), 5) for side in size]
            if scale < 1:
                low = stage(F.adaptive_avg_pool2d(x, other))
                maps.append(F.interpolate(low, size, mode='bilinear', align_corners=True))
            elif scale > 1:
                high = stage(F.interpolate(x, other, mode='bilinear', align_corners=True))
                maps.append(F.adaptive_avg_pool2d(high, size))
            else:
                maps.append(stage(x))
        return self.br(self.merge_layer(torch.cat(maps, 1)))


class WeightedMerge(nn.Module):
    """A grouped convolution of an encoder's map, weighed by channel by its global average."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.wt_layer = nn.Sequential(
            nn.AdaptiveAvgPool2d(1), nn.Conv2d(inputs, outputs, 1, bias=False), nn.Sigmoid()
        )
        self.expansion_layer = _conv_norm_act(inputs, outputs, 3, math.gcd(inputs, outputs))

    def forward(self, x: Tensor) -> Tensor:
        return self.expansion_layer(x) * self.wt_layer(x)


@MODELS.register_module()
class ESPNetv2Head(BaseDecodeHead):
    """Bottom-up decoder: pool, double the size, add the encoder's map, four times.

    Args:
        pyramid_channels: Channels of the pyramids' branches.
    """

    def __init__(self, pyramid_channels: int = 10, **options) -> None:
        widths = (64, 48, 32)
        super().__init__(
            channels=widths[-1],
            input_transform='multiple_select',
            align_corners=True,
            dropout_ratio=0,
            **options,
        )
        del self.conv_seg  # The last pyramid is the classifier.
        one, two, three, four = self.in_channels
        width, classes = pyramid_channels, self.out_channels
        self.bu_dec_l1 = PyramidPool(four, width, widths[0])
        self.bu_dec_l2 = PyramidPool(widths[0], width, widths[1])
        self.bu_dec_l3 = PyramidPool(widths[1], width, widths[2])
        self.bu_dec_l4 = PyramidPool(widths[2], width, classes, last=True)
        self.merge_enc_dec_l2 = WeightedMerge(three, widths[0])
        self.merge_enc_dec_l3 = WeightedMerge(two, widths[1])
        self.merge_enc_dec_l4 = WeightedMerge(one, widths[2])
        for level, channels in zip((2, 3, 4), widths):
            norm_act = nn.Sequential(nn.BatchNorm2d(channels), nn.PReLU(channels))
            self.add_module(f'bu_br_l{level}', norm_act)

    def init_weights(self) -> None:
        """There is no ``conv_seg`` whose weights mmseg could set."""

    def forward(self, inputs: Sequence[Tensor]) -> Tensor:
        """Four maps to logits (N, classes, H / 2, W / 2)."""
        one, two, three, four = self._transform_inputs(inputs)
        x = self.bu_dec_l1(four)
        for level, encoded in ((2, three), (3, two), (4, one)):
            x = F.interpolate(x, scale_factor=2, mode='bilinear', align_corners=True)
            x = x + getattr(self, f'merge_enc_dec_l{level}')(encoded)
            x = getattr(self, f'bu_br_l{level}')(x)
            x = getattr(self, f'bu_dec_l{level}')(x)
        return x


def published_channels(state: dict[str, Tensor]) -> tuple[int, ...]:
    """The four levels' channels of a published checkpoint."""
    names = ('level1.bn', 'level2_0.act', 'level3_0.act', 'level4_0.act')
    return tuple(len(state[f'base_net.{name}.weight']) for name in names)


def converted_weights(state: dict[str, Tensor], classes: int = 19) -> dict[str, Tensor]:
    """A published checkpoint under this file's names, its outputs cut to the first ``classes``."""
    converted = {}
    for name, tensor in state.items():
        if name.startswith('bu_dec_l4.merge_layer.3.'):
            tensor = tensor[:classes]
        own = 'backbone.' + name[len('base_net.') :]
        converted[own if name.startswith('base_net.') else f'decode_head.{name}'] = tensor
    return converted


def espnetv2_config(channels: Sequence[int]) -> dict:
    """The mmseg config of the segmentor, for Cityscapes' 19 classes."""
    norm = dict(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375])
    loss = dict(type='CrossEntropyLoss', use_sigmoid=False, loss_weight=1.0)
    return dict(
        type='EncoderDecoder',
        data_preprocessor=dict(
            type='SegDataPreProcessor', **norm, bgr_to_rgb=True, pad_val=0, seg_pad_val=255
        ),
        backbone=dict(type='ESPNetv2', channels=tuple(channels)),
        decode_head=dict(
            type='ESPNetv2Head',
            in_channels=list(channels),
            in_index=[0, 1, 2, 3],
            num_classes=19,
            loss_decode=loss,
        ),
        train_cfg=dict(),
        test_cfg=dict(mode='whole'),
    )
