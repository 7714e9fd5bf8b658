"""Meta networks on what a backbone gives out, whatever it is inside."""

import pytest
import torch
from mmseg.models.backbones import ResNet
from torch import nn

from ecotta_seg.meta_networks import (
    AdaptedEncoder,
    LadderEncoder,
    OutputEncoder,
    attach_meta_networks,
    load_adapters,
    save_adapters,
)
from ecotta_seg.meta_networks.output_encoder import trial_outputs


class Backbone(nn.Module):
    """Three maps, or what ``packing`` makes of them; frames of ``size`` alone, if it is given."""

    def __init__(self, packing=tuple, size=None):
        super().__init__()
        self.packing, self.img_size = packing, size
        self.layers = nn.ModuleList(
            nn.Sequential(nn.Conv2d(i, o, 3, 2, 1), nn.BatchNorm2d(o))
            for i, o in ((3, 4), (4, 6), (6, 8))
        )

    def forward(self, x):
        if self.img_size is not None and tuple(x.shape[2:]) != self.img_size:
            raise RuntimeError(f'frames of {self.img_size} alone')
        maps = []
        for layer in self.layers:
            x = layer(x)
            maps.append(x)
        return self.packing(maps)


IMAGE = torch.randn(2, 3, 32, 48, generator=torch.Generator().manual_seed(0))


def _tokens(x):
    return x.flatten(2).transpose(1, 2)


def _encoder(packing=tuple, **options):
    torch.manual_seed(0)
    encoder = OutputEncoder(Backbone(packing), start='identity', **options).eval()
    for parameter in encoder.meta_networks.parameters():
        nn.init.normal_(parameter, std=0.1)
    return encoder


def test_each_output_is_adapted_by_itself_and_no_graph_goes_into_the_backbone():
    encoder = _encoder(num_parts=2)
    frozen = encoder.backbone(IMAGE)
    with encoder.recording() as parts:
        outputs = encoder(IMAGE)
    assert isinstance(outputs, tuple) and encoder.split == (1, 2)
    assert torch.equal(outputs[0], frozen[0]) and not outputs[0].requires_grad
    for position, network, part in zip(encoder.split, encoder.meta_networks, parts):
        x = frozen[position]
        expected = x + network.norm(x) + network.gain.view(-1, 1, 1) * network.conv_block(x)
        assert torch.equal(outputs[position], expected) and part.adapted is outputs[position]
        assert torch.equal(part.frozen, x) and not part.frozen.requires_grad
    sum(output.sum() for output in outputs).backward()
    assert all(p.grad is not None for p in encoder.meta_networks.parameters())
    assert all(p.grad is None and not p.requires_grad for p in encoder.backbone.parameters())
    with encoder.bypass():
        assert all(torch.equal(a, b) for a, b in zip(encoder(IMAGE), frozen))


@pytest.mark.parametrize(('options', 'split'), [
    (dict(), (0, 1, 2)), (dict(num_parts=3), (0, 1, 2)), (dict(num_parts=1), (2,)),
    (dict(reads=[1]), (1,)), (dict(reads={0, -1}), (0, 2)), (dict(reads=[0, 1], num_parts=1), (1,)),
])  # fmt: skip
def test_what_gets_a_meta_network(options, split):
    encoder = _encoder(**options)
    assert encoder.split == split
    assert [network.norm.num_features for network in encoder.meta_networks] == [
        (4, 6, 8)[position] for position in split
    ]


@pytest.mark.parametrize('packing', [
    list,
    lambda maps: maps[-1],
    lambda maps: [_tokens(x) for x in maps],
    lambda maps: tuple([x, x.mean(dim=(2, 3))] for x in maps),
    lambda maps: [(_tokens(x), x.sum()) for x in maps],
])  # fmt: skip
def test_outputs_of_any_packing(packing):
    def leaves(outputs):
        if isinstance(outputs, torch.Tensor):
            return [('tensor', outputs)]
        nested = [leaf for output in outputs for leaf in leaves(output)]
        return [(type(outputs), torch.zeros(0)), *nested]

    fresh = OutputEncoder(Backbone(packing), start='identity').eval()
    encoder = _encoder(packing)
    for model, same in ((fresh, True), (encoder, False)):
        found, frozen = leaves(model(IMAGE)), leaves(model.backbone(IMAGE))
        assert [(kind, x.shape) for kind, x in found] == [(kind, x.shape) for kind, x in frozen]
        assert all(torch.equal(a[1], b[1]) for a, b in zip(found, frozen)) == same
    # A token's neighbours are those before and after it, its values the map's.
    with encoder.recording() as parts:
        encoder(IMAGE)
    maps = Backbone.forward(encoder.backbone, IMAGE)
    maps = [maps] if isinstance(maps, torch.Tensor) else maps
    for part, output in zip(parts, maps):
        output = output if isinstance(output, torch.Tensor) else output[0]
        values = output if output.dim() == 4 else output.transpose(1, 2).unsqueeze(3)
        assert torch.equal(part.frozen, values)


def test_a_backbone_of_its_own_size_is_tried_on_that():
    assert OutputEncoder(Backbone(size=(80, 112))).split == (0, 1, 2)
    with pytest.raises(TypeError, match=r'64 to 512 pixels, but a Backbone raised RuntimeError'):
        OutputEncoder(Backbone(size=(80, 112, 3)))


def test_the_trial_changes_nothing():
    backbone = Backbone().train()
    before = {name: tensor.clone() for name, tensor in backbone.state_dict().items()}
    OutputEncoder(backbone, norm='affine', start='identity')
    assert all(torch.equal(before[name], t) for name, t in backbone.state_dict().items())
    assert not backbone.training


@pytest.mark.parametrize(('options', 'error', 'message'), [
    (dict(split=[1, 2]), ValueError, r'no split for a Backbone.*got \[1, 2\]: leave it out'),
    (dict(num_parts=0), ValueError, 'whole num_parts from 1, got 0'),
    (dict(norm='XN'), ValueError, 'expected a norm from'),
    (dict(packing=lambda maps: [x.mean(dim=(2, 3)) for x in maps]), TypeError, 'gives none'),
    (dict(packing=lambda maps: dict(enumerate(maps))), TypeError, 'a Backbone gives none'),
])  # fmt: skip
def test_what_cannot_be_is_refused(options, error, message):
    packing = options.pop('packing', tuple)
    with pytest.raises(error, match=message):
        OutputEncoder(Backbone(packing), **options)


@pytest.mark.parametrize('kind', [AdaptedEncoder, LadderEncoder])
def test_attached_where_nobody_describes_the_backbone(kind):
    class Other(ResNet):
        def forward(self, x):
            return super().forward(x)

    segmentor = nn.Module()
    segmentor.backbone = Other(depth=18, base_channels=4, stem_channels=4)
    encoder = attach_meta_networks(segmentor, kind, num_parts=2)
    assert segmentor.backbone is encoder and type(encoder) is OutputEncoder
    assert encoder.split == (2, 3)
    with pytest.raises(ValueError, match='already'):
        attach_meta_networks(segmentor)


def test_a_segmentor_without_a_backbone_is_refused():
    with pytest.raises(TypeError, match='with a `backbone`.* but a Linear has none: choose'):
        attach_meta_networks(nn.Linear(1, 1))


def test_adapters_come_back_and_fit_their_own_outputs_alone(tmp_path):
    saved, fresh = _encoder(), OutputEncoder(Backbone(), start='identity')
    save_adapters(saved, tmp_path / 'a.pth')
    load_adapters(fresh, tmp_path / 'a.pth')
    state = fresh.meta_networks.state_dict()
    assert all(torch.equal(v, state[k]) for k, v in saved.meta_networks.state_dict().items())
    with pytest.raises(ValueError, match=r'their split is \[0, 1, 2\], the config asks for'):
        load_adapters(_encoder(num_parts=2), tmp_path / 'a.pth')
    inserted = AdaptedEncoder(ResNet(depth=18, base_channels=4, stem_channels=4), num_parts=3)
    with pytest.raises(ValueError, match='they are output meta networks'):
        load_adapters(inserted, tmp_path / 'a.pth')


def test_backbones_of_another_number_of_channels_are_tried_with_it():
    backbone = Backbone()
    backbone.layers[0][0] = nn.Conv2d(4, 4, 3, 2, 1)
    assert len(trial_outputs(backbone)) == 3
