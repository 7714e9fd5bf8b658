"""Predictions averaged over views, against each view made by hand; what is learned stays."""

from copy import deepcopy

import pytest
import torch
import torch.nn.functional as F
from mmseg.structures import SegDataSample

from ecotta_seg.adaptation import build_method
from ecotta_seg.adaptation.views import MAX_VIEWS, View, averaged_logits, prediction_views
from tests.adaptation.conftest import build_segmentor

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


def test_what_is_learned_does_not_depend_on_the_views():
    one, three, none = (
        build_method(config, build_segmentor('deeplab')).eval()
        for config in (dict(TENT, views=1), dict(TENT, views=3), deepcopy(TENT))
    )
    for _ in range(2):
        plain, averaged = one.test_step(_batch())[0], three.test_step(_batch())[0]
        unset = none.test_step(_batch())[0]
        assert torch.equal(plain.seg_logits.data, unset.seg_logits.data)
        assert not torch.allclose(plain.seg_logits.data, averaged.seg_logits.data, atol=1e-2)
    for (name, left), right in zip(one.learned_tensors().items(), three.learned_tensors().values()):
        assert torch.equal(left, right), name


def test_other_views_are_those_of_before_the_update():
    method = build_method(dict(TENT, views=2), build_segmentor('deeplab')).eval()
    with method.holding_still():
        expected = method.test_step(_batch())[0].seg_logits.data
    assert torch.allclose(method.test_step(_batch())[0].seg_logits.data, expected, atol=1e-4)
    with method.holding_still():
        after = method.test_step(_batch())[0].seg_logits.data
    assert not torch.allclose(after, expected, atol=1e-3)


@pytest.mark.parametrize('config', [
    dict(type='cotta', optimizer=TENT['optimizer']),
    dict(type='rdumb', method=TENT),
    dict(type='law', method=dict(type='cotta', optimizer=TENT['optimizer'])),
])  # fmt: skip
def test_wrapped_and_averaging_methods_take_the_number_too(config):
    method = build_method(dict(config, views=2), build_segmentor('deeplab')).eval()
    assert method.views == 2
    (sample,) = method.test_step(_batch())
    assert sample.seg_logits.data.isfinite().all()
    inner = getattr(method, 'inner', method)
    assert inner.views == 2
    fresh = build_method(dict(config, views=1), build_segmentor('deeplab')).eval()
    (plain,) = fresh.test_step(_batch())
    assert not torch.equal(plain.seg_logits.data, sample.seg_logits.data)


def test_a_wrong_number_is_refused(segmentor):
    with pytest.raises(ValueError, match='from 1 to 14'):
        build_method(dict(TENT, views=20), segmentor)
