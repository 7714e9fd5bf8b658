"""RDumb: after so many frames all is as at the start, and in between the method goes on."""

import pytest
import torch

from ecotta_seg.methods import build_method
from ecotta_seg.methods.step_record import StepRecord
from tests.segmentors import build_segmentor

ETA = dict(type='eata', fisher_weight=0.0, entropy_threshold=0.8,
             optimizer=dict(type='SGD', lr=1e-2, momentum=0.9))  # fmt: skip


@pytest.mark.parametrize('inner', [ETA, dict(type='tent', optimizer=dict(type='Adam', lr=1e-3))])
def test_each_period_is_a_fresh_method(inner, frames):
    images, metas = frames
    method = build_method(dict(inner, reset_every=3), build_segmentor('deeplab'))
    expected = []
    for start in (0, 3, 6, 9):
        fresh = build_method(inner, build_segmentor('deeplab'))
        expected += [fresh.adapt(image, metas) for image in images[start : start + 3]]
    found, resets = [], []
    for index, image in enumerate(images):
        method.last_step = StepRecord()
        found.append(method.adapt(image, metas))
        if method.last_step.own_reset:
            resets.append(index)
    assert resets == [3, 6, 9]
    assert all(torch.equal(a, b) for a, b in zip(found, expected))
    going_on = build_method(inner, build_segmentor('deeplab'))
    whole = [going_on.adapt(image, metas) for image in images]
    assert torch.equal(whole[2], found[2]) and not torch.equal(whole[3], found[3])


def test_the_count_is_saved(frames):
    images, metas = frames
    options = dict(ETA, reset_every=3)
    first, second = (build_method(options, build_segmentor('deeplab')) for _ in range(2))
    for image in images[:2]:
        first.adapt(image, metas)
    second.load_method_state(first.method_state())
    for image in images[2:5]:
        assert torch.equal(first.adapt(image, metas), second.adapt(image, metas))
    assert first.parts['reset_every'].frames == second.parts['reset_every'].frames == 2


@pytest.mark.parametrize(('options', 'words'), [
    (dict(ETA, reset_every=0), 'reset_every to be a whole number from 1, got 0'),
    (dict(ETA, reset_every=2.5), 'reset_every to be a whole number from 1, got 2.5'),
    (dict(type='source', reset_every=3), 'learns by gradients, such as tent .*leave out reset_ev'),
])  # fmt: skip
def test_wrong_options_are_refused(segmentor, options, words):
    with pytest.raises(ValueError, match=words):
        build_method(options, segmentor)


def test_an_own_reset_of_another_kind_restarts_the_count(frames):
    images, metas = frames
    method = build_method(dict(ETA, reset_every=3), build_segmentor('deeplab'))
    for image in images[:2]:
        method.adapt(image, metas)
    method.reset()
    resets = []
    for index, image in enumerate(images[2:6]):
        method.last_step = StepRecord()
        method.adapt(image, metas)
        if method.last_step.own_reset:
            resets.append(index)
    assert resets == [3]
