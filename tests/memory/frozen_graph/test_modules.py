"""Operators of mmseg's and mmcv's modules against plain autograd, in float64."""

import pytest
import torch
from mmcv.cnn import ConvModule, DepthwiseSeparableConvModule
from mmseg.models.backbones import ResNet, ResNetV1c, ResNetV1d
from mmseg.models.backbones.mit import TransformerEncoderLayer
from mmseg.models.utils import PatchEmbed
from torch import nn

from ecotta_seg.layers import replace_batch_norms
from ecotta_seg.memory.frozen_graph import Tape, build_operator, transformer_layer
from ecotta_seg.memory.frozen_graph.transformer_layer import StageNorm, to_map, to_tokens

BN = dict(type='BN')


def _prepared(module, norm_mode):
    """Seeded, with statistics and affine parameters of its own, frozen, in float64."""
    torch.manual_seed(0)
    module = module.double().eval().requires_grad_(False)
    for layer in module.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.running_mean.normal_(0, 0.3)
            layer.running_var.uniform_(0.5, 1.5)
        if isinstance(layer, (nn.BatchNorm2d, nn.LayerNorm)):
            layer.weight.normal_(1, 0.3)
            layer.bias.normal_(0, 0.3)
    replace_batch_norms(module, norm_mode)
    return module


def _block(cls, depth, index, **options):
    backbone = cls(depth=depth, base_channels=8, stem_channels=8, norm_cfg=BN, **options)
    return [block for name in backbone.res_layers for block in getattr(backbone, name)][index]


D8 = dict(strides=(1, 2, 1, 1), dilations=(1, 1, 2, 4), contract_dilation=True)
MAPS = {
    'conv_module': lambda: ConvModule(6, 8, 3, padding=1, norm_cfg=BN),
    'conv_bias_stride': lambda: ConvModule(6, 8, 3, stride=2, act_cfg=None),
    'separable': lambda: DepthwiseSeparableConvModule(
        6, 8, 3, padding=2, dilation=2, norm_cfg=BN
    ),
    'sequential': lambda: nn.Sequential(nn.Conv2d(6, 8, 1), nn.BatchNorm2d(8), nn.ReLU()),
    'basic': lambda: _block(ResNet, 18, 1),
    'basic_downsample': lambda: _block(ResNet, 18, 2),
    'bottleneck': lambda: _block(ResNetV1c, 50, 1),
    'bottleneck_downsample': lambda: _block(ResNetV1c, 50, 3),
    'bottleneck_dilated': lambda: _block(ResNetV1c, 50, 9, **D8),
    'average_downsample': lambda: _block(ResNetV1d, 50, 3),
}  # fmt: skip
CHANNELS = {
    'basic': 8, 'basic_downsample': 8, 'bottleneck': 32, 'bottleneck_downsample': 32,
    'bottleneck_dilated': 128, 'average_downsample': 32,
}  # fmt: skip


def _compare(module, operator, x, exact=True):
    """Forward and gradient; with and without a sum to add to. Gives the bytes on the tape."""
    leaf = x.clone().requires_grad_()
    expected = module(leaf)
    grad = torch.randn_like(expected)
    (gradient,) = torch.autograd.grad(expected, leaf, grad)
    with torch.no_grad():
        before, tape = x.clone(), Tape()
        found = operator.forward(x, tape)
        assert torch.equal(found, operator.forward(x))
        assert torch.equal(x, before)
        assert torch.equal(found, expected) if exact else torch.allclose(found, expected)
        assert torch.allclose(operator.backward(grad.clone(), tape), gradient, 1e-9, 1e-11)
        assert not tape
        operator.forward(x, tape)
        into = torch.ones_like(x)
        assert operator.backward(grad.clone(), tape, into) is into
        assert torch.allclose(into - 1, gradient, 1e-9, 1e-11)


@pytest.mark.parametrize('frames', [1, 2])
@pytest.mark.parametrize('mode', ['source', 'drift'])
@pytest.mark.parametrize('name', sorted(MAPS))
def test_modules_on_maps(name, mode, frames):
    module = _prepared(MAPS[name](), mode)
    operator = build_operator(module)
    assert operator.fallbacks() == []
    x = torch.randn(frames, CHANNELS.get(name, 6), 9, 13, dtype=torch.float64)
    if mode == 'source':
        _compare(module, operator, x)
        return
    # The frame's statistics are constants of the backward; so they are in the module itself.
    _compare(module, operator, x)


def test_what_stays_on_the_tape_of_a_block():
    module = _prepared(MAPS['bottleneck'](), 'source').float()
    tape, x = Tape(), torch.randn(1, 32, 16, 24)
    with torch.no_grad():
        build_operator(module).forward(x, tape)
    tensors = [t for item in tape for t in (item if isinstance(item, tuple) else (item,))]
    kept = sum(t.numel() * t.element_size() for t in tensors if isinstance(t, torch.Tensor))
    # Three norms' scales, and one bit for each element that a ReLU has seen.
    assert kept == 4 * (8 + 8 + 32) + (8 + 8 + 32) * 16 * 24 // 8


@pytest.mark.parametrize('generous', [True, False])
@pytest.mark.parametrize('sr_ratio', [1, 2])
@pytest.mark.parametrize('frames', [1, 2])
def test_transformer_layer(sr_ratio, frames, generous, monkeypatch):
    monkeypatch.setattr(transformer_layer, 'HIDDEN_ELEMENTS', 3000)
    layer = TransformerEncoderLayer(16, 2, 64, drop_path_rate=0.1, sr_ratio=sr_ratio)
    layer = _prepared(layer, 'source')
    operator = build_operator(layer)
    assert operator.fallbacks() == []
    size = (9, 7)
    tokens = torch.randn(frames, 63, 16, dtype=torch.float64)

    def plain(x):
        return to_map(layer(to_tokens(x), size), size)

    _compare(plain, operator, to_map(tokens, size))
    tape = Tape(generous)
    with torch.no_grad():
        found = operator.forward(to_map(tokens, size), tape)
    leaf = to_map(tokens, size).clone().requires_grad_()
    grad = torch.randn_like(found)
    (expected,) = torch.autograd.grad(plain(leaf), leaf, grad)
    with torch.no_grad():
        assert torch.allclose(operator.backward(grad, tape), expected, 1e-9, 1e-11)


def test_patch_embedding_and_stage_norm():
    module = PatchEmbed(6, 16, 'Conv2d', 3, 2, 1, norm_cfg=dict(type='LN', eps=1e-6))
    module = _prepared(module, 'source')
    x = torch.randn(2, 6, 9, 13, dtype=torch.float64)
    _compare(lambda x: to_map(*module(x)), build_operator(module), x)
    norm = _prepared(nn.LayerNorm(6), 'source')
    _compare(lambda x: norm(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2), StageNorm(norm), x)


def test_an_unknown_module_is_run_by_autograd_and_named():
    class Odd(nn.Module):
        def forward(self, x):
            return x.sin() * x

    class Block(ResNetV1c.arch_settings[50][0]):
        """A subclass may compute something else."""

    operator = build_operator(nn.Sequential(nn.Conv2d(6, 6, 1), Odd()).requires_grad_(False))
    assert operator.fallbacks() == ['(Odd)']
    module = nn.Sequential(nn.Conv2d(6, 6, 1), Odd()).double().requires_grad_(False)
    _compare(module, build_operator(module), torch.randn(1, 6, 4, 5, dtype=torch.float64))
    assert build_operator(Block(32, 8), 'layer1').fallbacks() == ['layer1 (Block)']
    weird = ConvModule(6, 8, 3, norm_cfg=dict(type='GN', num_groups=2))
    assert build_operator(weird).fallbacks() == ['(ConvModule)']
