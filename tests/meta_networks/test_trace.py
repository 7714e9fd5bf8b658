"""The blocks that a run of a backbone shows."""

import pytest
import torch
from mmseg.models.backbones import MobileNetV2
from torch import nn

from ecotta_seg.meta_networks import find_units
from ecotta_seg.meta_networks.trace import TracedBlock, find_blocks
from tests.zoo import build


class Block(nn.Module):
    """Two convolutions; ``before`` changes the input first."""

    def __init__(self, channels, out_channels, stride=1, before=None):
        super().__init__()
        self.convs = nn.Sequential(
            nn.Conv2d(channels, out_channels, 3, stride, 1),
            nn.Conv2d(out_channels, out_channels, 1),
        )
        self.before = before

    def forward(self, x):
        if self.before is not None:
            self.before(x)
        return self.convs(x)


class Larger(nn.Module):
    """Doubles the size of a map."""

    def __init__(self, channels):
        super().__init__()
        self.up = nn.ConvTranspose2d(channels, channels, 2, 2)
        self.conv = nn.Conv2d(channels, channels, 1)

    def forward(self, x):
        return self.conv(self.up(x))


class Backbone(nn.Module):
    """Two chains with a ReLU in between, a branch, and modules that are no blocks."""

    def __init__(self):
        super().__init__()
        stem = nn.Sequential(nn.Conv2d(3, 4, 3, 2, 1), nn.BatchNorm2d(4), nn.ReLU())
        self.stem = nn.ModuleList([stem])
        self.blocks = nn.ModuleList([Block(4, 6, 2), Block(6, 6), Block(6, 8, 2)])
        self.in_place = nn.ModuleList([Block(8, 8, before=torch.relu_)])
        self.shared = nn.ModuleList([Block(8, 8)])
        self.pooled = nn.ModuleList([Block(8, 8)])
        self.larger = nn.ModuleList([Larger(8)])
        self.layer1, self.layer2 = Block(8, 8), Block(8, 10)
        self.unused = nn.ModuleList([Block(8, 8)])

    def forward(self, x):
        x = self.blocks[1](self.blocks[0](self.stem[0](x)))
        x = self.in_place[0](self.blocks[2](x.relu()))
        x = self.shared[0](self.shared[0](x))
        x = x * self.pooled[0](x.mean((2, 3), keepdim=True))
        return (self.layer2(self.layer1(x)), self.larger[0](x))


def test_the_blocks_of_a_backbone():
    sizes = [Block(4, 6), Block(6, 6), Block(6, 8), Block(8, 8), Block(8, 10)]
    counts = [sum(p.numel() for p in block.parameters()) for block in sizes]
    assert find_blocks(Backbone().train()) == [
        TracedBlock('blocks.0', 4, 6, 2, counts[0], False),
        TracedBlock('blocks.1', 6, 6, 1, counts[1], True),
        TracedBlock('blocks.2', 6, 8, 2, counts[2], False),
        TracedBlock('layer1', 8, 8, 1, counts[3], False),
        TracedBlock('layer2', 8, 10, 1, counts[4], True),
    ]


def test_a_run_leaves_no_hooks_and_changes_no_statistics():
    backbone = Backbone().train()
    before = {name: tensor.clone() for name, tensor in backbone.state_dict().items()}
    find_blocks(backbone)
    assert all(torch.equal(before[name], t) for name, t in backbone.state_dict().items())
    for module in backbone.modules():
        assert not module._forward_hooks and not module._forward_pre_hooks


def test_frames_of_a_size_that_does_not_run_are_no_part_of_the_trace():
    class Choosy(Backbone):
        def forward(self, x):
            y = self.blocks[1](self.blocks[0](self.stem[0](x)))
            if x.shape[2] < 256:
                raise RuntimeError('too small')
            return self.blocks[2](y)

    names = [block.name for block in find_blocks(Choosy())]
    assert names == ['blocks.0', 'blocks.1', 'blocks.2']


def test_a_backbone_without_blocks():
    assert find_blocks(nn.Conv2d(3, 4, 3)) == []


@pytest.mark.parametrize('model', ['deeplab', 'mobilenet_v2'])
def test_a_described_backbone_has_the_blocks_of_its_description(model):
    from tests.segmentors import build_segmentor

    segmentor = build_segmentor(model) if model == 'deeplab' else build(model)
    described = find_units(segmentor.backbone).shapes
    found = find_blocks(segmentor.backbone)
    if isinstance(segmentor.backbone, MobileNetV2):
        # The trace also takes the convolution behind the last stage for a block.
        found = [block for block in found if block.name.startswith('layer')]
    assert [(b.in_channels, b.out_channels, b.stride) for b in found] == [
        (shape.in_channels, shape.out_channels, shape.stride) for shape in described
    ]
