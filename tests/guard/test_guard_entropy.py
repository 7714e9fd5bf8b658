"""Which frames a guard finds too unclear to learn from."""

import numpy as np
import pytest
import torch

from ecotta_seg.guard.guard import UpdateGuard
from ecotta_seg.layers.prediction_statistics import mean_entropy
from ecotta_seg.methods.frame_life import predict_and_learn
from ecotta_seg.methods.source import SourceModel
from tests.guard.toy_method import (
    CLASSES,
    Hasty,
    ToyMethod,
    ToySegmentor,
    four_quarters,
    guarded_adapt,
    kinds,
)


@pytest.fixture
def frame():
    return four_quarters()


def blurred(frame, share):
    """The frame with so much of its contrast left: the toy is the less sure, the less there is."""
    return frame.mean() + share * (frame - frame.mean())


def entropy_share(method, image):
    return mean_entropy(method.predict(image, [{}])) / np.log(CLASSES)


@pytest.mark.parametrize('kind', [ToyMethod, Hasty])
def test_frames_that_the_model_makes_nothing_of_are_not_learned_from(frame, kind):
    method, guard = kind(lr=1e-4), UpdateGuard(check_every=3, max_entropy=0.9)
    unclear = blurred(frame, 0.02)
    assert entropy_share(method, frame) < 0.7 and entropy_share(method, unclear) > 0.95
    for _ in range(6):
        guarded_adapt(guard, method, frame)
    assert kinds(guard) == []
    # One alone does not change the median of three; the second does.
    guarded_adapt(guard, method, unclear)
    assert method.last_step.updated and kinds(guard) == []
    learned = guard._good['tensors']['parameter.weight'] if kind is Hasty else None
    before = method.segmentor.weight.detach().clone()
    for _ in range(40):
        guarded_adapt(guard, method, unclear)
        assert not method.last_step.updated
    expected = before if kind is ToyMethod else learned
    assert torch.equal(method.segmentor.weight, expected)
    assert set(kinds(guard)) == ({'skip'} if kind is ToyMethod else {'rollback'})
    # And the first good ones after it, until they are the median.
    guarded_adapt(guard, method, frame)
    assert not method.last_step.updated
    guarded_adapt(guard, method, frame)
    assert method.last_step.updated


def test_a_stream_that_is_unclear_by_nature_is_learned_from(frame):
    method, guard = ToyMethod(lr=1e-4), UpdateGuard(max_entropy=0.9)
    unclear = blurred(frame, 0.02)
    for _ in range(60):
        guarded_adapt(guard, method, unclear)
        assert method.last_step.updated
    assert kinds(guard) == [] and len(guard.state_dict()['entropies']['usual']) == 50


def test_a_model_that_lost_its_certainty_is_rolled_back(frame):
    method, guard = ToyMethod(lr=1e-4), UpdateGuard(check_every=3, max_entropy=0.9)
    for _ in range(6):
        guarded_adapt(guard, method, frame)
    good = guard._good['tensors']['parameter.weight'].clone()
    with torch.no_grad():
        method.segmentor.weight.mul_(1e-3)
    for _ in range(4):
        guarded_adapt(guard, method, frame)
    events = guard.take_events()
    assert [event['event'] for event in events] == ['skip'] * 3 + ['rollback']
    assert 'not in the prediction of the source' in events[-1]['reason']
    assert torch.equal(method.segmentor.weight, good)


def test_the_limit_is_of_ln_c_or_what_is_usual(frame):
    method, guard = ToyMethod(lr=1e-6), UpdateGuard(max_entropy=0.3)
    for _ in range(3):
        guarded_adapt(guard, method, frame)
    assert guard.entropies.limit() == pytest.approx(1.25 * entropy_share(method, frame), rel=1e-3)
    guard = UpdateGuard(max_entropy=0.95)
    for _ in range(3):
        guarded_adapt(guard, method, frame)
    assert guard.entropies.limit() == 0.95
    # Turned off, a frame without any content is learned from.
    for limit, updated in ((1.0, True), (0.95, False)):
        guard = UpdateGuard(max_entropy=limit, max_class_share=1.0)
        for index in range(9):
            guarded_adapt(guard, method, frame if index < 6 else torch.zeros_like(frame))
        assert method.last_step.updated == updated


def test_a_reset_does_not_open_the_door_to_unclear_frames(frame):
    method, guard = ToyMethod(lr=1e-4), UpdateGuard(check_every=3, max_entropy=0.9)
    for _ in range(6):
        guarded_adapt(guard, method, frame)
    limit = guard.entropies.limit()
    for event in ('rollback', 'reset'):
        guard._repair(method, [{}], 'a test')
        assert kinds(guard) == [event] and guard.entropies.limit() == limit == 0.9
    for _ in range(3):
        guarded_adapt(guard, method, blurred(frame, 0.02))
    assert kinds(guard) == ['skip'] * 3


@pytest.mark.parametrize('share, updated', [(0.5, True), (0.59, True), (0.61, False)])
def test_a_real_night_is_learned_from_by_the_default_limit(frame, share, updated):
    # DeepLabV3+ R18 is at up to 0.49 of its maximum there, and at 0.2 in the fog before.
    method, guard = ToyMethod(lr=1e-6), UpdateGuard(max_class_share=1.0)

    def at(entropy):
        low, high = 0.1, 100.0
        for _ in range(50):
            middle = (low * high) ** 0.5
            if entropy_share(method, middle * frame) > entropy:
                low = middle
            else:
                high = middle
        assert entropy_share(method, low * frame) == pytest.approx(entropy, abs=1e-3)
        return low * frame

    for _ in range(6):
        guarded_adapt(guard, method, at(0.25))
    for _ in range(3):
        guarded_adapt(guard, method, at(share))
    assert method.last_step.updated == updated
    assert set(kinds(guard)) == (set() if updated else {'skip'})


def test_where_nothing_is_learned_unclear_frames_are_no_events(frame):
    method, guard = SourceModel(ToySegmentor()), UpdateGuard(max_entropy=0.9)
    for _ in range(3):
        guarded_adapt(guard, method, frame)
    for _ in range(20):
        guarded_adapt(guard, method, blurred(frame, 0.02))
    assert kinds(guard) == []
    guarded_adapt(guard, method, frame * float('nan'))
    assert kinds(guard) == ['skip']


@pytest.mark.parametrize('kind, event', [(ToyMethod, 'skip'), (Hasty, 'rollback')])
def test_noise_is_not_learned_from_however_sure_the_model_is(frame, kind, event):
    method, guard = kind(lr=1e-4), UpdateGuard(max_class_share=1.0)
    guarded_adapt(guard, method, frame)
    assert kinds(guard) == []
    generator = torch.Generator().manual_seed(0)
    noise = 50 * torch.randn(frame.shape, generator=generator)
    assert entropy_share(method, noise) < entropy_share(method, frame)
    before = {name: t.detach().clone() for name, t in method.learned_tensors().items()}
    guarded_adapt(guard, method, noise)
    (found,) = guard.take_events()
    assert found['event'] == event and 'neighbouring pixels correlate' in found['reason']
    if kind is ToyMethod:
        assert all(torch.equal(t, before[name]) for name, t in method.learned_tensors().items())


def test_noise_in_the_padding_is_no_fault(frame):
    method, guard = ToyMethod(lr=1e-4), UpdateGuard(max_class_share=1.0)
    generator = torch.Generator().manual_seed(0)
    height, width = frame.shape[2:]
    padded = torch.randn((*frame.shape[:2], 3 * height, width), generator=generator)
    padded[:, :, :height] = frame
    metas = [dict(img_shape=(height, width), padding_size=[0, 0, 0, 2 * height])]
    predict_and_learn(method, padded, metas, guard)
    assert kinds(guard) == [] and method.last_step.updated
