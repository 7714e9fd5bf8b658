"""Predictions averaged over views, against each view made by hand; what is learned stays."""

from copy import deepcopy

import pytest
import torch
import torch.nn.functional as F
from mmseg.structures import SegDataSample

from ecotta_seg.inference.views import (
    MAX_VIEWS,
    View,
    averaged_logits,
    prediction_views,
    view_probabilities,
)
from ecotta_seg.methods import build_method
from tests.methods.test_every_method import METHODS, method_options
from tests.segmentors import build_segmentor, calibrated

COTTA = dict(
    type='cotta', views=4, anchor_threshold=0.5, optimizer=dict(type='Adam', lr=1e-3), seed=3
)
TENT = dict(type='tent', optimizer=dict(type='Adam', lr=1e-3))


def _batch(height=61, width=93):
    generator = torch.Generator().manual_seed(4)
    image = torch.randint(0, 256, (3, height, width), generator=generator).byte()
    meta = dict(ori_shape=(height, width), img_shape=(height, width))
    return dict(inputs=[image], data_samples=[SegDataSample(metainfo=meta)])


def _padding(segmentor):
    segmentor.data_preprocessor.test_cfg = dict(size_divisor=32)
    return segmentor


def test_one_view_is_plain_and_fourteen_are_cottas():
    assert prediction_views(1) == [View(1.0, False)]
    assert prediction_views(2) == [View(1.0, False), View(1.0, True)]
    scales = (0.5, 0.75, 1.0, 1.25, 1.5, 1.75, 2.0)
    assert set(prediction_views(MAX_VIEWS)) == {View(s, f) for s in scales for f in (False, True)}
    assert prediction_views(5)[2:] == [View(0.5, False), View(0.5, True), View(0.75, False)]
    for count in (0, 15, 2.0, True):
        with pytest.raises(ValueError, match='from 1 to 14'):
            prediction_views(count)


def test_averages_are_of_probabilities():
    logits, others = torch.randn(1, 5, 3, 4), torch.rand(1, 5, 3, 4)
    found = averaged_logits(logits, others, 3).exp()
    assert torch.allclose(found, (logits.softmax(1) + others) / 3, atol=1e-6)


@pytest.mark.parametrize('kind', ['deeplab', 'segformer'])
@pytest.mark.parametrize('mode', ['whole', 'slide'])
def test_a_sample_is_predicted_in_all_views(kind, mode):
    test_cfg = dict(mode='slide', crop_size=(48, 48), stride=(32, 32)) if mode == 'slide' else {}
    segmentor = _padding(build_segmentor(kind, **test_cfg))
    method = build_method(dict(type='source', views=4), segmentor).eval()
    (sample,) = method.test_step(_batch())
    frame = segmentor.data_preprocessor(_batch(), False)['inputs']
    assert frame.shape[2:] == (64, 96), 'the frame is padded'
    meta = dict(ori_shape=(64, 96), img_shape=(64, 96))
    with torch.no_grad():
        total = segmentor.inference(frame, [meta])[:, :, :61, :93].softmax(1)
        for scale, flip in ((1, True), (0.5, False), (0.5, True)):
            size = (61, 93) if scale == 1 else (30, 46)
            seen = F.interpolate(frame[:, :, :61, :93], size, mode='bilinear')
            seen = seen.flip(3) if flip else seen
            meta = dict(ori_shape=size, img_shape=torch.Size(size))
            logits = segmentor.inference(seen, [meta])
            logits = logits.flip(3) if flip else logits
            total += F.interpolate(logits, (61, 93), mode='bilinear').softmax(1)
    assert torch.allclose(sample.seg_logits.data.softmax(0), total[0] / 4, atol=1e-5)
    assert torch.equal(sample.pred_sem_seg.data[0], (total[0] / 4).argmax(0))


def _learned_the_same(first, second):
    left, right = first.learned_tensors(), second.learned_tensors()
    assert left.keys() == right.keys()
    for name in left:
        assert torch.equal(left[name], right[name]), name


@pytest.mark.parametrize('name', sorted({*METHODS, 'tent'}))
def test_what_is_learned_does_not_depend_on_the_views(name):
    config = deepcopy(TENT) if name == 'tent' else method_options(name)
    one, three, none = (
        calibrated(build_method(deepcopy(config), build_segmentor('deeplab'), views=views).eval())
        for views in (1, 3, None)
    )
    for _ in range(2):
        plain, averaged = one.test_step(_batch())[0], three.test_step(_batch())[0]
        unset = none.test_step(_batch())[0]
        # The own prediction of these is averaged where their anchor is not sure.
        own = name in ('cotta', 'svdp')
        assert torch.equal(plain.seg_logits.data, unset.seg_logits.data) != own
        assert not torch.allclose(plain.seg_logits.data, averaged.seg_logits.data, atol=1e-2)
    _learned_the_same(one, three)
    _learned_the_same(one, none)


def test_a_number_of_views_goes_before_the_configs_own():
    config = dict(TENT, views=3)
    assert build_method(config, build_segmentor('deeplab')).views == 3
    assert build_method(config, build_segmentor('deeplab'), views=2).views == 2
    cotta = build_method(COTTA, build_segmentor('deeplab'), views=2)
    assert (cotta.views, cotta.label_views) == (2, 4)
    cotta = build_method(COTTA, build_segmentor('deeplab'))
    assert (cotta.views, cotta.label_views) == (4, 4)
    law = build_method(dict(COTTA, layer_weights=dict()), build_segmentor('deeplab'), views=2)
    assert (law.views, law.label_views) == (2, 4)


@pytest.mark.parametrize('views', [1, 3, 4])
@pytest.mark.parametrize('weighted', [False, True])
def test_cotta_is_scored_by_the_views_that_are_asked_for(views, weighted):
    """On every pixel, where the anchor is sure and where not; adapting and held still alike."""
    segmentor = build_segmentor('deeplab')
    config = dict(COTTA, layer_weights=dict()) if weighted else COTTA
    method = cotta = build_method(config, segmentor, views=views).eval()
    method.test_step(_batch())
    image = segmentor.data_preprocessor(_batch(), False)['inputs']
    metas = [dict(ori_shape=(61, 93), img_shape=(61, 93))]
    with cotta.using(cotta.teacher), torch.no_grad():
        total = sum(
            view_probabilities(segmentor.inference, image, metas, view)
            for view in prediction_views(views)
        )
    with method.adaptation_disabled():
        (still,) = method.test_step(_batch())
    (adapting,) = method.test_step(_batch())
    assert 0 < method.last_step.confident_fraction < 1
    for sample in (still, adapting):
        found = sample.seg_logits.data.softmax(0)
        assert torch.allclose(found, total[0] / views, atol=1e-5)


def test_other_views_are_those_of_before_the_update():
    method = build_method(dict(TENT, views=2), build_segmentor('deeplab')).eval()
    with method.adaptation_disabled():
        expected = method.test_step(_batch())[0].seg_logits.data
    assert torch.allclose(method.test_step(_batch())[0].seg_logits.data, expected, atol=1e-4)
    with method.adaptation_disabled():
        after = method.test_step(_batch())[0].seg_logits.data
    assert not torch.allclose(after, expected, atol=1e-3)


@pytest.mark.parametrize('config', [
    dict(type='cotta', optimizer=TENT['optimizer']),
    dict(TENT, reset_every=1000),
])  # fmt: skip
def test_resetting_and_averaging_methods_take_the_number_too(config):
    method = build_method(dict(config, views=2), build_segmentor('deeplab')).eval()
    assert method.views == 2
    (sample,) = method.test_step(_batch())
    assert sample.seg_logits.data.isfinite().all()
    fresh = build_method(dict(config, views=1), build_segmentor('deeplab')).eval()
    (plain,) = fresh.test_step(_batch())
    assert not torch.equal(plain.seg_logits.data, sample.seg_logits.data)


def test_a_wrong_number_is_refused(segmentor):
    with pytest.raises(ValueError, match='from 1 to 14'):
        build_method(dict(TENT, views=20), segmentor)
