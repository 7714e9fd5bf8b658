"""Backbones described by a list of their blocks."""

import pytest
import torch
from mmseg.models.backbones import MobileNetV2, ResNet, ResNetV1c
from torch import nn

from ecotta_seg.meta_networks import AdaptedEncoder, BlockUnits, find_units, register_units


def _resnet(cls, depth, strides=(1, 2, 2, 2), dilations=(1, 1, 1, 1)):
    norm = dict(type='BN', requires_grad=True)
    return cls(depth=depth, base_channels=8, strides=strides, dilations=dilations, norm_cfg=norm)


@pytest.mark.parametrize('out_indices', [(1, 2, 4, 6), (6,)])
def test_a_mobilenet_computes_what_it_computed(out_indices):
    backbone = MobileNetV2(0.25, out_indices=out_indices)
    backbone.eval()  # mmseg's MobileNetV2 returns nothing here.
    frame = torch.rand(2, 3, 61, 50)
    expected = backbone(frame)
    given = AdaptedEncoder(backbone, 4, start='identity').eval()(frame)
    assert type(given) is type(expected)
    for one, other in zip(given, expected) if len(out_indices) > 1 else [(given, expected)]:
        assert torch.equal(one, other)


def test_all_inverted_residuals_are_listed():
    backbone = MobileNetV2(0.25)
    units = find_units(backbone)
    assert len(units) == sum(len(getattr(backbone, name)) for name in backbone.layers) == 17
    # The published table of MobileNetV2: strides of the seven rows, at the first block of each.
    firsts = [units.shapes[i].stride for i in (0, 1, 3, 6, 10, 13, 16)]
    assert firsts == [1, 2, 2, 2, 1, 2, 1]


@pytest.mark.parametrize('dilated', [False, True])
@pytest.mark.parametrize('depth', [18, 50])
def test_shapes_are_those_of_the_convolutions(depth, dilated):
    options = dict(strides=(1, 2, 1, 1), dilations=(1, 1, 2, 4)) if dilated else {}
    backbone = _resnet(ResNetV1c, depth, **options)
    units = find_units(backbone)
    blocks = [b for name in backbone.res_layers for b in getattr(backbone, name)]
    assert len(units) == len(blocks)
    for shape, block in zip(units.shapes, blocks):
        last = block.conv3 if depth == 50 else block.conv2
        assert shape.in_channels == block.conv1.in_channels
        assert shape.out_channels == last.out_channels
        assert shape.stride == block.stride


def test_measuring_leaves_statistics_and_mode_alone():
    backbone = _resnet(ResNet, 18)
    backbone.train()
    backbone.layer1.eval()
    before = {name: tensor.clone() for name, tensor in backbone.state_dict().items()}
    modes = [module.training for module in backbone.modules()]
    find_units(backbone)
    after = backbone.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert modes == [module.training for module in backbone.modules()]


def test_a_backbone_of_ones_own_takes_two_lists():
    class Own(nn.Module):
        out_indices = (0, 1)

        def __init__(self):
            super().__init__()
            self.first = nn.Conv2d(3, 4, 3, 2, 1)
            self.one = nn.Sequential(nn.Conv2d(4, 4, 3, 1, 1), nn.Conv2d(4, 8, 3, 2, 1))
            self.two = nn.Sequential(nn.Conv2d(8, 6, 3, 1, 1))

        def forward(self, x):
            one = self.one(self.first(x))
            return one, self.two(one)

    @register_units(Own)
    class OwnUnits(BlockUnits):
        def stem_modules(self):
            return [self.backbone.first]

        def stages(self):
            return [self.backbone.one, self.backbone.two]

    backbone = Own()
    encoder = AdaptedEncoder(backbone, 2, start='identity').eval()
    frame = torch.rand(1, 3, 33, 47)
    for given, expected in zip(encoder(frame), backbone(frame)):
        assert torch.equal(given, expected)
    assert [(s.in_channels, s.out_channels, s.stride) for s in encoder.units.shapes] == [
        (4, 4, 1),
        (4, 8, 2),
        (8, 6, 1),
    ]
