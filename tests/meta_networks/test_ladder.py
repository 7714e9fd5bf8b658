"""The ladder: identity at the start, nothing of the backbone in the graph, little kept for it."""

import pytest
import torch
import torch.nn.functional as F

from ecotta_seg.memory import StorageMeter
from ecotta_seg.meta_networks import (
    AdaptedEncoder,
    LadderEncoder,
    MetaNetwork,
    attach_meta_networks,
    load_adapters,
    save_adapters,
)
from tests.meta_networks.test_encoder import BACKBONES


def _ladder(name, **options):
    torch.manual_seed(0)
    backbone = BACKBONES[name]()
    backbone.eval()
    return backbone, LadderEncoder(backbone, **options).eval()


def _disturb(encoder):
    with torch.no_grad():
        for parameter in encoder.meta_networks.parameters():
            parameter += 0.1


@pytest.mark.parametrize('name', ['r18', 'r50 v1d stride 8', 'mit b0', 'mit b2'])
@pytest.mark.parametrize('num_parts', [3, 4])
@torch.no_grad()
def test_identity_start_computes_what_the_backbone_computes(name, num_parts):
    backbone, encoder = _ladder(name, num_parts=num_parts, start='identity')
    image = torch.randn(1, 3, 61, 93)
    expected = backbone(image)
    assert all(torch.equal(a, b) for a, b in zip(encoder(image), expected))
    _disturb(encoder)
    outputs = encoder(image)
    # With a part a stage all stage outputs are adapted; else those that end inside one are not.
    changed = [not torch.equal(a, b) for a, b in zip(outputs, expected)]
    assert all(changed) if num_parts == 4 else changed[-1] and not all(changed)
    with encoder.bypass():
        assert all(torch.equal(a, b) for a, b in zip(encoder(image), expected))


def test_one_part_a_stage_by_default():
    assert _ladder('r50 plain stem')[1].split == (3, 4, 6, 3)
    assert _ladder('mit b2')[1].split == (3, 4, 6, 3)
    assert _ladder('r18', num_parts=3)[1].split == (2, 2, 4)
    assert _ladder('r18', num_parts=2, split=[3, 5])[1].split == (3, 5)


@pytest.mark.parametrize('name', ['r18', 'mit b0'])
@pytest.mark.parametrize('start', ['paper', 'identity'])
def test_rungs_follow_the_formula(name, start):
    """Written out with the backbone's own outputs: each rung reads the one before it."""
    backbone, encoder = _ladder(name, start=start)
    _disturb(encoder)
    image = torch.randn(1, 3, 64, 96)
    with encoder.recording() as records, torch.no_grad():
        outputs = encoder(image)
        frozen = backbone(image)
        units = encoder.units
        side = units.stem(image)
        for k, meta in enumerate(encoder.meta_networks):
            block = meta.conv_block(side)
            x = records[k].frozen
            assert torch.equal(units.leave_stage(k, x), frozen[k]), 'no feedback into the trunk'
            rung = meta.norm(x) + (block if start == 'paper' else meta.gain.view(-1, 1, 1) * block)
            rung = rung if start == 'paper' else x + rung
            side = units.leave_stage(k, rung)
            assert torch.allclose(outputs[k], side, atol=1e-5)


@pytest.mark.parametrize('name', ['r18', 'mit b0'])
def test_no_gradient_reaches_into_the_backbone(name):
    def gradients(encoder):
        image = torch.randn(1, 3, 64, 96, requires_grad=True)
        # Even a backbone that somebody unfroze gets none.
        encoder.backbone.requires_grad_(True)
        with encoder.recording() as records:
            sum(output.square().mean() for output in encoder(image)).backward()
        trunk = [f for f, _ in records if f.requires_grad]
        inner = [p for n, p in encoder.backbone.named_parameters() if p.grad is not None]
        return image.grad, trunk, inner

    _, encoder = _ladder(name)
    image, trunk, inner = gradients(encoder)
    assert image is None and not trunk
    # A MiT's stage norms follow the rungs: the one frozen thing that adapted features pass.
    norms = {id(p) for n, p in encoder.backbone.named_parameters() if n.endswith(_STAGE_NORMS)}
    assert {id(p) for p in inner} <= norms
    assert all(p.grad is not None for p in encoder.meta_networks.parameters())
    other = AdaptedEncoder(BACKBONES[name]()).eval()
    image, trunk, inner = gradients(other)
    assert image is not None and len(trunk) == 4 and inner, 'the test can tell the difference'


_STAGE_NORMS = tuple(f'layers.{k}.2.{p}' for k in range(4) for p in ('weight', 'bias'))


@pytest.mark.parametrize('name', ['r18', 'r50 plain stem', 'mit b0'])
def test_much_less_is_kept_for_backward(name):
    """Bytes that stand after a forward: what backward will read."""

    def kept(encoder):
        image = torch.randn(1, 3, 128, 192)
        with StorageMeter() as meter:
            outputs = encoder(image)
            found = meter.current_bytes
        assert outputs
        return found

    _, ladder = _ladder(name, start='identity', reduction=8)
    backbone = BACKBONES[name]()
    backbone.eval()
    inserted = AdaptedEncoder(backbone, num_parts=4, start='identity').eval()
    with torch.no_grad():
        outputs = kept(inserted)
    assert kept(ladder) - outputs < 0.35 * (kept(inserted) - outputs)


def test_adapters_of_another_kind_are_refused(tmp_path):
    _, ladder = _ladder('r18')
    split = list(ladder.split)
    save_adapters(ladder, tmp_path / 'ladder.pth')
    inserted = AdaptedEncoder(BACKBONES['r18'](), num_parts=4, split=split)
    with pytest.raises(ValueError, match='ladder meta networks, the config asks for inserted'):
        load_adapters(inserted, tmp_path / 'ladder.pth')
    load_adapters(_ladder('r18')[1], tmp_path / 'ladder.pth')
    # Files from before there were kinds are of inserted ones.
    save_adapters(inserted, tmp_path / 'old.pth')
    state = torch.load(tmp_path / 'old.pth')
    del state['kind']
    torch.save(state, tmp_path / 'old.pth')
    load_adapters(inserted, tmp_path / 'old.pth')


def test_attached_to_a_segmentor():
    segmentor = torch.nn.Module()
    segmentor.backbone = BACKBONES['r18']()
    encoder = attach_meta_networks(segmentor, LadderEncoder, kernel_size=1)
    assert segmentor.backbone is encoder and isinstance(encoder, LadderEncoder)


@pytest.mark.parametrize('start', ['paper', 'identity'])
def test_a_narrow_block_follows_the_formula(start):
    torch.manual_seed(0)
    network = MetaNetwork(8, 16, stride=2, start=start, reduction=4).eval()
    assert network.conv.weight.shape == (4, 8, 3, 3) and network.gain is None
    x, part_input = torch.randn(1, 16, 5, 6), torch.randn(1, 8, 9, 11)
    if start == 'identity':
        assert torch.equal(network(x, part_input), x)
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter)
    narrow = F.conv2d(part_input, network.conv.weight, stride=2, padding=1)
    mean, var = narrow.mean((0, 2, 3), keepdim=True), narrow.var((0, 2, 3), False, keepdim=True)
    weight, bias = (p.view(1, -1, 1, 1) for p in network.block_norm.parameters())
    narrow = ((narrow - mean) / (var + 1e-5).sqrt() * weight + bias).relu()
    block = torch.einsum('oc,nchw->nohw', network.expand.weight[:, :, 0, 0], narrow)
    expected = network.norm(x) + block + (x if start == 'identity' else 0)
    assert torch.allclose(network(x, part_input), expected, atol=1e-4)
    with pytest.raises(ValueError, match='reduction from 1'):
        MetaNetwork(8, 16, reduction=0)


def _gradients(encoder, image):
    parameters = list(encoder.meta_networks.parameters())
    loss = sum(output.square().mean() for output in encoder(image))
    return torch.autograd.grad(loss, parameters, allow_unused=True)


@pytest.mark.parametrize('name', ['r18', 'mit b0'])
def test_with_all_parts_open_a_ladder_is_the_inserted_encoder(name):
    backbone, ladder = _ladder(name, start='identity', open_parts=4)
    other = AdaptedEncoder(backbone, num_parts=4, split=ladder.split, start='identity').eval()
    _disturb(ladder)
    other.meta_networks.load_state_dict(ladder.meta_networks.state_dict())
    image = torch.randn(1, 3, 64, 96)
    assert all(torch.equal(a, b) for a, b in zip(ladder(image), other(image)))
    for found, wanted in zip(_gradients(ladder, image), _gradients(other, image)):
        assert torch.allclose(found, wanted, 1e-5, 1e-7)


@pytest.mark.parametrize('name', ['r18', 'mit b0'])
@pytest.mark.parametrize('merge', ['sum', 'confidence'])
def test_open_parts_and_merges_follow_the_formula(name, merge):
    """Written out for each pixel's two confidences, with the last part open."""
    backbone, encoder = _ladder(name, start='identity', open_parts=1, merge=merge)
    _disturb(encoder)
    image, units = torch.randn(1, 3, 64, 96), encoder.units
    with encoder.recording() as records, torch.no_grad():
        outputs, frozen = encoder(image), backbone(image)
        trunk = side = units.stem(image)
        for k, meta in enumerate(encoder.meta_networks):
            if merge == 'confidence' and k:
                weight = meta.confidence.weight.view(1, -1, 1, 1)
                scores = torch.cat([(weight * x).sum(1, True) for x in (side, trunk)], 1)
                share = scores.softmax(1)
                side = share[:, :1] * side + share[:, 1:] * trunk
            x = encoder.run_part(k, side if k == 3 else trunk, {})
            assert torch.allclose(records[k].frozen, x, atol=1e-5)
            assert torch.allclose(units.leave_stage(k, x), frozen[k], atol=1e-5) == (k < 3)
            rung = x + meta.norm(x) + meta.gain.view(-1, 1, 1) * meta.conv_block(side)
            trunk, side = units.leave_stage(k, x), units.leave_stage(k, rung)
            assert torch.allclose(outputs[k], side, atol=1e-4)


@pytest.mark.parametrize('options', [dict(merge='confidence'), dict(open_parts=2)])
@torch.no_grad()
def test_an_identity_start_is_exact_with_each_option(options):
    backbone, encoder = _ladder('mit b0', start='identity', **options)
    image = torch.randn(1, 3, 61, 93)
    expected = backbone(image)
    assert all(torch.equal(a, b) for a, b in zip(encoder(image), expected))
    _disturb(encoder)
    assert not torch.equal(encoder(image)[-1], expected[-1])
    with encoder.bypass():
        assert all(torch.equal(a, b) for a, b in zip(encoder(image), expected))


def test_each_open_part_keeps_more():
    def kept(open_parts):
        _, encoder = _ladder('r18', start='identity', reduction=8, open_parts=open_parts)
        with StorageMeter() as meter:
            outputs = encoder(torch.randn(1, 3, 128, 192))
            found = meter.current_bytes
        assert outputs
        return found

    peaks = [kept(number) for number in range(5)]
    assert peaks == sorted(peaks) and peaks[0] < peaks[1] < peaks[4]


@pytest.mark.parametrize(('options', 'words'), [
    (dict(merge='product'), 'merge to be one of'), (dict(open_parts=5), 'open_parts from 0 to 4'),
])  # fmt: skip
def test_wrong_options_of_a_ladder_are_refused(options, words):
    with pytest.raises(ValueError, match=words):
        _ladder('r18', **options)
