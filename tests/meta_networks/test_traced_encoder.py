"""Meta networks between the blocks that a trace finds."""

from copy import deepcopy

import pytest
import torch
from torch import nn

from ecotta_seg.memory import measure_peak
from ecotta_seg.meta_networks import (
    AdaptedEncoder,
    OutputEncoder,
    TracedEncoder,
    load_adapters,
    save_adapters,
)
from ecotta_seg.methods import build_method
from tests.segmentors import build_segmentor
from tests.zoo import OTHER_BACKBONES, build

METAS = [dict(img_shape=(64, 96), ori_shape=(64, 96), pad_shape=(64, 96))]
IMAGE = torch.randn(2, 3, 64, 96, generator=torch.Generator().manual_seed(0))
SGD = dict(type='SGD', lr=1e-2, momentum=0.9)
# The backbone of 'tokens' has no blocks; that of 'mobilenet_v2' has a description.
UNDESCRIBED = sorted({*OTHER_BACKBONES} - {'tokens', 'mobilenet_v2'})


def _filled(encoder):
    generator = torch.Generator().manual_seed(1)
    for parameter in encoder.meta_networks.parameters():
        parameter.data = 0.1 * torch.randn(parameter.shape, generator=generator)
    return encoder.eval()


def _both(**options):
    """The same ResNet by its description and by a trace, with the same weights."""
    backbones = [build_segmentor('deeplab').backbone for _ in range(2)]
    options = dict(dict(num_parts=3, start='identity', norm='BN'), **options)
    return [
        _filled(kind(backbone, **options))
        for kind, backbone in zip((AdaptedEncoder, TracedEncoder), backbones)
    ]


@pytest.mark.parametrize(
    'options', [{}, dict(start='paper'), dict(coarse=2), dict(split=[1, 4, 3])]
)
def test_a_traced_resnet_is_the_described_one(options):
    described, traced = _both(**options)
    assert described.split == traced.split
    with described.recording() as ours, traced.recording() as theirs:
        outputs = [encoder(IMAGE) for encoder in (described, traced)]
    for ours_out, theirs_out in zip(*outputs):
        assert torch.equal(ours_out, theirs_out)
    assert len(ours) == len(theirs) == 3
    for first, second in zip(ours, theirs):
        assert torch.equal(first.frozen, second.frozen)
        assert torch.equal(first.adapted, second.adapted)
    for maps in outputs:
        sum(out.square().mean() for out in maps).backward()
    pairs = zip(described.meta_networks.parameters(), traced.meta_networks.parameters())
    for first, second in pairs:
        torch.testing.assert_close(first.grad, second.grad)
        assert first.grad.abs().max() > 0


def test_only_a_run_of_the_encoder_is_adapted():
    _, traced = _both()
    source = build_segmentor('deeplab').backbone
    source.eval()
    plain = source(IMAGE)
    for first, second in zip(traced.backbone(IMAGE), plain):
        assert torch.equal(first, second)
    with traced.bypass():
        assert all(torch.equal(a, b) for a, b in zip(traced(IMAGE), plain))
    assert not any(torch.equal(a, b) for a, b in zip(traced(IMAGE)[1:], plain[1:]))
    assert not traced._inputs, 'no map is kept'


def test_a_copy_has_meta_networks_of_its_own():
    _, traced = _both()
    copy, before = deepcopy(traced), traced(IMAGE)
    for parameter in copy.meta_networks.parameters():
        parameter.data.mul_(3)
    assert all(torch.equal(a, b) for a, b in zip(traced(IMAGE), before))
    assert not torch.equal(copy(IMAGE)[-1], before[-1])


def _method(model, **options):
    meta_networks = dict(num_parts=4, norm='auto', start='identity', traced=True)
    options = dict(
        dict(type='ecotta', meta_networks=meta_networks, optimizer=SGD, entropy_threshold=1.0),
        **options,
    )
    return build_method(options, build(model)).eval()


@pytest.mark.parametrize('model', UNDESCRIBED)
def test_the_zoo_starts_as_the_source_and_learns_between_its_blocks(model):
    source = build(model).requires_grad_(False)
    image = IMAGE[:1]
    with torch.no_grad():
        expected = source.inference(image, METAS)
    method = _method(model, frozen_norm=dict(mode='source'))
    assert isinstance(method.encoder, TracedEncoder)
    assert torch.equal(method.predict(image, METAS), expected)
    start = {name: tensor.clone() for name, tensor in method.adaptable_parameters().items()}
    for frame in (IMAGE[:1], IMAGE[1:]):
        assert method.adapt(frame.clone(), METAS).isfinite().all()
        assert method.last_step.updated
    learned = method.adaptable_parameters()
    for index in range(len(method.encoder.meta_networks)):
        names = [name for name in learned if f'meta_networks.{index}.' in name]
        assert any(not torch.equal(learned[name], start[name]) for name in names), index
    method.reset()
    assert torch.equal(method.predict(image, METAS), expected)


@pytest.mark.parametrize('model', ['swin', 'ddrnet'])
def test_a_memory_budget_is_kept(model):
    with pytest.raises(ValueError, match='cannot be met') as error:
        _method(model, memory_budget='1kB').adapt(IMAGE[:1].clone(), METAS)
    budget = error.value.smallest_bytes
    free, method = _method(model), _method(model, memory_budget=f'{budget}B')
    for image in (IMAGE[:1], IMAGE[1:]):
        expected = free.adapt(image.clone(), METAS)
        torch.testing.assert_close(method.adapt(image.clone(), METAS), expected)
    # The blocks of a Swin without a meta network are computed again.
    assert method.planned.plan.modules or model != 'swin'
    peak = measure_peak(lambda: method.adapt(IMAGE[:1].clone(), METAS), torch.device('cpu'))
    assert peak <= budget


def test_aligned_features_and_calibration():
    options = dict(frozen_norm=dict(mode='calibrated', features=True))
    method = _method('ddrnet', type='ecotta_plus', **options)
    method.calibrate([(IMAGE[:1], METAS), (IMAGE[1:], METAS)])
    assert len(method.encoder.aligners) == len(method.encoder.meta_networks)
    assert all(float(aligner.measured) == 1 for aligner in method.encoder.aligners)
    assert method.adapt(IMAGE[:1].clone(), METAS).isfinite().all()


def test_adapters_of_another_place_are_refused(tmp_path):
    from ecotta_seg.meta_networks import attach_meta_networks

    options = dict(num_parts=4, norm='auto', start='identity')
    traced = attach_meta_networks(build('ddrnet'), traced=True, **options)
    save_adapters(traced, tmp_path / 'a.pth')
    other = attach_meta_networks(build('ddrnet'), traced=True, **options)
    load_adapters(other, tmp_path / 'a.pth')
    for first, second in zip(traced.meta_networks.parameters(), other.meta_networks.parameters()):
        assert torch.equal(first, second)
    outputs = attach_meta_networks(build('ddrnet'), **options)
    assert isinstance(outputs, OutputEncoder)
    with pytest.raises(ValueError, match='traced'):
        load_adapters(outputs, tmp_path / 'a.pth')


def test_a_backbone_without_blocks_has_meta_networks_on_its_outputs():
    method = _method('tokens')
    assert isinstance(method.encoder, OutputEncoder)
    with pytest.raises(TypeError, match='a trace finds none in a Conv2d'):
        TracedEncoder(nn.Conv2d(3, 4, 3))
