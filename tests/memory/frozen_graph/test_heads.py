"""Decode heads' operators against plain autograd, in float64."""

import pytest
import torch
from mmseg.models.decode_heads import (
    ASPPHead,
    DepthwiseSeparableASPPHead,
    FCNHead,
    SegformerHead,
)
from torch import nn

from ecotta_seg.layers import replace_batch_norms
from ecotta_seg.memory.frozen_graph import Tape, build_head_operator

COMMON = dict(channels=8, num_classes=5, norm_cfg=dict(type='BN'), align_corners=False)
HEADS = {
    'deeplabv3plus': lambda: DepthwiseSeparableASPPHead(
        in_channels=12, in_index=3, dilations=(1, 2, 3), c1_in_channels=6, c1_channels=4, **COMMON
    ),
    'deeplabv3plus_no_low_level': lambda: ASPPHead(
        in_channels=12, in_index=3, dilations=(1, 2), **COMMON
    ),
    'one_feature': lambda: DepthwiseSeparableASPPHead(
        in_channels=6, in_index=0, dilations=(1, 2), c1_in_channels=6, c1_channels=4, **COMMON
    ),
    'segformer': lambda: SegformerHead(
        in_channels=[6, 8, 10, 12], in_index=[0, 1, 2, 3], **COMMON
    ),
    'fcn': lambda: FCNHead(in_channels=12, in_index=3, num_convs=1, **COMMON),
}  # fmt: skip
SHAPES = [(6, 14, 22), (8, 7, 11), (10, 4, 6), (12, 4, 6)]


@pytest.mark.parametrize('frames', [1, 2])
@pytest.mark.parametrize('name', sorted(HEADS))
def test_heads(name, frames):
    torch.manual_seed(0)
    head = HEADS[name]().double().eval().requires_grad_(False)
    for layer in head.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.running_mean.normal_(0, 0.3)
            layer.running_var.uniform_(0.5, 1.5)
    nn.init.normal_(head.conv_seg.weight)
    replace_batch_norms(head, 'frame')
    operator = build_head_operator(head)
    features = [torch.randn(frames, *shape, dtype=torch.float64) for shape in SHAPES]
    leaves = [feature.clone().requires_grad_() for feature in features]
    expected = head.forward(leaves)
    grad = torch.randn_like(expected)
    gradients = torch.autograd.grad(expected, leaves, grad, allow_unused=True)
    read = {index for index, gradient in enumerate(gradients) if gradient is not None}
    if name == 'fcn':
        assert operator.fallbacks() == ['decode head (FCNHead)'] and operator.reads is None
        given = list(features)
    else:
        assert operator.fallbacks() == [] and set(operator.reads) == read
        given = [f if index in read else None for index, f in enumerate(features)]
    with torch.no_grad():
        tape = Tape()
        found = operator.forward(list(given), tape)
        assert torch.equal(found, expected)
        assert torch.equal(operator.forward(list(given)), expected)
        pending = operator.backward(grad.clone(), tape)
        assert not tape and set(pending) == read
        for index in read:
            into = torch.ones_like(features[index])
            result = pending[index](into if index % 2 else None)
            result = result - 1 if index % 2 else result
            assert torch.allclose(result, gradients[index], 1e-9, 1e-11)
