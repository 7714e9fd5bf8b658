"""The encoder against the backbone it wraps, and the meta network against its formula."""

import pytest
import torch
import torch.nn.functional as F
from mmseg.models.backbones import MixVisionTransformer, ResNet, ResNetV1c, ResNetV1d
from torch import nn

from ecotta_seg.meta_networks import AdaptedEncoder, MetaNetwork, attach_meta_networks


def _resnet(cls=ResNetV1c, depth=18, strides=(1, 2, 2, 2), dilations=(1, 1, 1, 1)):
    backbone = cls(
        depth=depth, base_channels=4, stem_channels=4, strides=strides, dilations=dilations,
        contract_dilation=True, norm_cfg=dict(type='BN'), out_indices=(0, 1, 2, 3),
    )  # fmt: skip
    for module in backbone.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.3)
            module.running_var.uniform_(0.5, 1.5)
            # Blocks start with a zero scale in their last norm, which would hide what they do.
            nn.init.uniform_(module.weight, 0.5, 1.5)
    return backbone


def _mit(num_layers=(2, 2, 2, 2)):
    backbone = MixVisionTransformer(embed_dims=8, num_layers=list(num_layers), drop_path_rate=0.1)
    backbone.init_weights()
    return backbone


BACKBONES = {
    'r18': lambda: _resnet(),
    'r18 stride 8': lambda: _resnet(strides=(1, 2, 1, 1), dilations=(1, 1, 2, 4)),
    'r34 stride 16': lambda: _resnet(depth=34, strides=(1, 2, 2, 1), dilations=(1, 1, 1, 2)),
    'r50 plain stem': lambda: _resnet(ResNet, 50),
    'r50 v1d stride 8': lambda: _resnet(ResNetV1d, 50, (1, 2, 1, 1), (1, 1, 2, 4)),
    'r101': lambda: _resnet(depth=101),
    'mit b0': _mit,
    'mit b2': lambda: _mit((3, 4, 6, 3)),
}


@pytest.mark.parametrize('name', BACKBONES)
@pytest.mark.parametrize('size', [(64, 96), (61, 93)])
@torch.no_grad()
def test_identity_start_computes_what_the_backbone_computes(name, size):
    torch.manual_seed(0)
    backbone = BACKBONES[name]()
    backbone.eval()
    image = torch.randn(1, 3, *size)
    expected = backbone(image)
    names = set(backbone.state_dict())
    encoder = AdaptedEncoder(backbone, num_parts=3, start='identity').eval()
    outputs = encoder(image)
    assert type(outputs) is type(expected) and len(outputs) == 4
    assert all(torch.equal(a, b) for a, b in zip(outputs, expected))
    assert set(backbone.state_dict()) == names
    # With other meta networks the output differs, and bypassing them brings it back.
    for parameter in encoder.meta_networks.parameters():
        parameter.add_(0.1)
    assert not torch.equal(encoder(image)[-1], expected[-1])
    with encoder.bypass():
        assert all(torch.equal(a, b) for a, b in zip(encoder(image), expected))


@pytest.mark.parametrize('name', ['r18', 'mit b0'])
@pytest.mark.parametrize('options', [
    dict(), dict(kernel_size=1), dict(depthwise=True), dict(norm='LN'), dict(norm='GN'),
    dict(norm='affine'), dict(kernel_size=5, block_norm='LN'), dict(reduction=4),
])  # fmt: skip
@torch.no_grad()
def test_every_variant_fits_odd_sizes(name, options):
    backbone = BACKBONES[name]()
    backbone.eval()
    image = torch.randn(1, 3, 61, 93)
    expected = [output.shape for output in backbone(image)]
    encoder = AdaptedEncoder(backbone, num_parts=4, **options).eval()
    with encoder.recording() as parts:
        assert [output.shape for output in encoder(image)] == expected
    assert len(parts) == 4
    assert all(part.frozen.shape == part.adapted.shape for part in parts)


STRIDES = {32: ((1, 2, 2, 2), (1, 1, 1, 1)), 16: ((1, 2, 2, 1), (1, 1, 1, 2)),
           8: ((1, 2, 1, 1), (1, 1, 2, 4))}  # fmt: skip
MIT_LAYERS = {'b0': (2, 2, 2, 2), 'b1': (2, 2, 2, 2), 'b2': (3, 4, 6, 3), 'b3': (3, 4, 18, 3),
              'b4': (3, 8, 27, 3), 'b5': (3, 6, 40, 3)}  # fmt: skip


def _attaches(backbone, image):
    backbone.eval()
    expected = backbone(image)
    encoder = AdaptedEncoder(backbone, start='identity').eval()
    assert sum(encoder.split) == len(encoder.units) and len(encoder.split) == 4
    assert all(torch.equal(a, b) for a, b in zip(encoder(image), expected))
    return encoder


@pytest.mark.parametrize('depth', [18, 34, 50, 101, 152])
@pytest.mark.parametrize('stride', STRIDES)
@pytest.mark.parametrize('cls', [ResNet, ResNetV1c, ResNetV1d])
@torch.no_grad()
def test_every_resnet_attaches(cls, depth, stride):
    encoder = _attaches(_resnet(cls, depth, *STRIDES[stride]), torch.randn(1, 3, 64, 64))
    assert encoder(torch.randn(1, 3, 64, 64))[-1].shape[-1] == 64 // stride
    assert len(encoder.units) == {18: 8, 34: 16, 50: 16, 101: 33, 152: 50}[depth]


@pytest.mark.parametrize('size', MIT_LAYERS)
@torch.no_grad()
def test_every_mit_attaches(size):
    encoder = _attaches(_mit(MIT_LAYERS[size]), torch.randn(1, 3, 64, 64))
    assert len(encoder.units) == sum(MIT_LAYERS[size])


def test_paper_start_follows_the_formula():
    torch.manual_seed(0)
    network = MetaNetwork(3, 5, stride=2).eval()
    part_input, part_output = torch.randn(1, 3, 9, 11), torch.randn(1, 5, 5, 6)
    for parameter in network.parameters():
        nn.init.normal_(parameter)

    def frame_norm(x, norm):
        mean = x.mean(dim=(0, 2, 3), keepdim=True)
        var = x.var(dim=(0, 2, 3), keepdim=True, correction=0)
        x = (x - mean) / (var + norm.eps).sqrt()
        return x * norm.weight.view(-1, 1, 1) + norm.bias.view(-1, 1, 1)

    block = F.conv2d(part_input, network.conv.weight, stride=2, padding=1)
    expected = frame_norm(part_output, network.norm)
    expected = expected + frame_norm(block, network.block_norm).relu()
    assert torch.allclose(network(part_output, part_input), expected, atol=1e-5)


def test_identity_start_can_learn():
    network = MetaNetwork(3, 5, start='identity').eval()
    part_output = torch.randn(1, 5, 6, 6)
    output = network(part_output, torch.randn(1, 3, 6, 6))
    assert torch.equal(output, part_output)
    output.square().sum().backward()
    assert network.gain.grad.abs().sum() > 0 and network.norm.weight.grad.abs().sum() > 0


def test_a_backbone_with_a_forward_of_its_own_is_refused():
    class Other(ResNet):
        def forward(self, x):
            return super().forward(x)

    backbone = Other(depth=18, base_channels=4, stem_channels=4)
    with pytest.raises(TypeError, match='cannot be attached to a Other'):
        AdaptedEncoder(backbone)


@pytest.mark.parametrize(('options', 'message'), [
    (dict(split=[2, 2, 2, 3]), r'adds up to 9, but the encoder has 8 blocks'),
    (dict(split=[4, 4]), 'has 2 parts but num_parts is 4'),
    (dict(num_parts=9), 'the encoder has 8 blocks'),
    (dict(num_parts=1, split=[0]), 'whole numbers from 1'),
    (dict(kernel_size=2), 'odd, positive kernel_size'),
    (dict(norm='XN'), 'expected a norm from'),
    (dict(start='zero'), 'expected start'),
])  # fmt: skip
def test_wrong_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        AdaptedEncoder(_resnet(), **options)


def test_meta_networks_are_attached_once():
    segmentor = nn.Module()
    segmentor.backbone = _resnet()
    attach_meta_networks(segmentor)
    with pytest.raises(ValueError, match='already'):
        attach_meta_networks(segmentor)


def test_a_wide_convolution_is_torchs_own_under_autocast():
    network = MetaNetwork(384, 384).eval()
    x = torch.randn(1, 384, 8, 8, generator=torch.Generator().manual_seed(0))
    direct = F.conv2d(x, network.conv.weight, padding=1)
    with torch.autocast('cpu', dtype=torch.bfloat16):
        narrow, expected = network.convolve(x), F.conv2d(x, network.conv.weight, padding=1)
    assert narrow.dtype == torch.bfloat16 and torch.equal(narrow, expected)
    # Without it Winograd's filtering: other bits than the direct sum's.
    wide = network.convolve(x)
    assert not torch.equal(wide, direct) and torch.allclose(wide, direct, 1e-3, 1e-4)
