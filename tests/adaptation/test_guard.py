import numpy as np
import pytest
import torch
from torch import nn

from ecotta_seg.adaptation.gradient_adaptation import GradientAdaptation
from ecotta_seg.adaptation.guard import UpdateGuard
from ecotta_seg.adaptation.prediction_watch import mask_agreement, mean_entropy
from ecotta_seg.adaptation.source import SourceModel

CLASSES = 4


class ToySegmentor(nn.Module):
    """A pixelwise linear classifier with mmseg's interface."""

    test_cfg = dict(mode='whole')
    out_channels = CLASSES

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([[3.0, 0, 0], [0, 3, 0], [0, 0, 3], [1, 1, 1]]))

    def encode_decode(self, inputs, metas):
        return torch.einsum('kc,nchw->nkhw', self.weight, inputs)

    inference = encode_decode


class ToyMethod(GradientAdaptation):
    """Pulls class 0 up by its learning rate; does what a test tells it to."""

    def __init__(self, lr=0.01, ask=True):
        super().__init__(ToySegmentor(), dict(type='SGD', lr=lr, momentum=0.9))
        self.spoil = None
        self.ask = ask
        self.start()

    def learn(self, logits, share):
        loss = -logits[:, 0].mean() * share
        if self.spoil == 'loss':
            loss = loss * float('nan')
        loss.backward()
        self.last_step.loss = float(loss.detach())

    def adapt(self, inputs, metas):
        if not self.ask:
            self.gate = None
        logits = super().adapt(inputs, metas)
        if self.spoil == 'weights':
            with torch.no_grad():
                self.segmentor.weight[0, 0] = float('nan')
            logits = logits * float('nan')
        return logits


@pytest.fixture
def frame():
    """Four quarters of four classes."""
    image = torch.zeros(1, 3, 16, 16)
    image[:, 0, :8, :8] = image[:, 1, :8, 8:] = image[:, 2, 8:, :8] = 1
    image[:, :, 8:, 8:] = 0.6
    return image + 0.1


def watch(guard, method, image, index=0):
    method.last_step.updated = False
    return guard.watch(method, image, [dict(stream_index=index)])


def kinds(guard):
    return [event['event'] for event in guard.take_events()]


def test_a_healthy_stream_is_left_alone(frame):
    guarded, plain = ToyMethod(lr=1e-3), ToyMethod(lr=1e-3)
    guard = UpdateGuard(check_every=2)
    for index in range(12):
        first = watch(guard, guarded, frame, index)
        assert torch.equal(first, plain.adapt(frame, [{}]))
    assert torch.equal(guarded.segmentor.weight, plain.segmentor.weight)
    assert kinds(guard) == []


@pytest.mark.parametrize('image', ['nan', 'one class'])
def test_an_update_on_a_bad_prediction_is_skipped(frame, image):
    method, guard = ToyMethod(), UpdateGuard()
    watch(guard, method, frame)
    before = method.method_state()
    bad = frame * float('nan')
    if image == 'one class':
        bad = torch.zeros_like(frame)
        bad[:, 0] = 1
    watch(guard, method, bad, index=7)
    (event,) = guard.take_events()
    assert event['event'] == 'skip' and event['stream_index'] == 7
    assert not method.last_step.updated
    assert torch.equal(method.segmentor.weight, before['tensors']['parameter.weight'])
    watch(guard, method, frame)
    assert method.last_step.updated


def test_a_loss_that_is_not_finite_never_reaches_the_weights(frame):
    method, guard = ToyMethod(), UpdateGuard()
    watch(guard, method, frame)
    weight = method.segmentor.weight.detach().clone()
    method.spoil = 'loss'
    watch(guard, method, frame)
    assert kinds(guard) == ['skip']
    assert torch.equal(method.segmentor.weight, weight)


def test_a_method_that_does_not_ask_is_rolled_back(frame):
    method, guard = ToyMethod(ask=False), UpdateGuard()
    watch(guard, method, frame)
    method.spoil = 'loss'
    watch(guard, method, frame)
    assert kinds(guard) == ['rollback']
    assert method.segmentor.weight.isfinite().all()
    assert not method.last_step.updated


def test_broken_weights_are_rolled_back_and_the_frame_predicted_again(frame):
    method, guard = ToyMethod(), UpdateGuard()
    start = method.method_state()
    watch(guard, method, frame)
    method.spoil = 'weights'
    logits = watch(guard, method, frame)
    assert logits.isfinite().all()
    assert kinds(guard) == ['rollback']
    assert torch.equal(method.segmentor.weight, start['tensors']['parameter.weight'])


def test_drift_is_rolled_back_and_then_reset(frame):
    method = ToyMethod(lr=0.05)
    start = method.segmentor.weight.detach().clone()
    guard = UpdateGuard(check_every=1, window=1, min_agreement=0.9, margin=0.05)
    seen = []
    for index in range(60):
        watch(guard, method, frame, index)
        for event in guard.take_events():
            seen.append(event['event'])
            if event['event'] == 'reset':
                assert torch.equal(method.segmentor.weight, start)
    assert seen[:2] == ['rollback', 'reset']
    reference = method.predict_reference(frame, [{}]).argmax(1)
    unguarded = ToyMethod(lr=0.05)
    for _ in range(60):
        unguarded.adapt(frame, [{}])
    assert mask_agreement(method.predict(frame, [{}]).argmax(1), reference) >= 0.9
    assert mask_agreement(unguarded.predict(frame, [{}]).argmax(1), reference) < 0.5


@pytest.mark.parametrize('unsure, events', [(1, []), (0, ['rollback', 'reset'])])
def test_only_where_the_source_is_sure_must_be_agreed_with(unsure, events):
    # Two classes; class 0 comes to have all pixels of class 1 sooner or later.
    frame = torch.zeros(1, 3, 16, 16)
    frame[:, 0, :8], frame[:, 1, 8:] = 1.0, 1.0
    frame[:, 1 - unsure] *= 3
    method = ToyMethod(lr=0.0)
    guard = UpdateGuard(
        check_every=1, window=1, max_class_share=1.0, max_entropy=1, max_diversity_loss=9
    )
    with torch.no_grad():
        watch(guard, method, frame)
        method.segmentor.weight[0, 1] = 3.5
    watch(guard, method, frame)
    assert (method.predict(frame, [{}]).argmax(1) == 0).all() == (not events)
    assert kinds(guard) == events[:1]


def test_a_model_that_gets_certain_of_everything_is_taken_back(frame):
    class Sharpens(ToyMethod):
        def learn(self, logits, share):
            (-(logits.softmax(1).max(1).values).mean() * share).backward()

    method = Sharpens(lr=20.0)
    guard = UpdateGuard(check_every=1, window=1, min_agreement=0, margin=0, max_diversity_loss=9)
    for _ in range(30):
        watch(guard, method, frame)
    events = guard.take_events()
    assert events and all('entropy fell' in event['reason'] for event in events)


def test_the_reference_is_what_was_there_at_the_start(frame):
    method = ToyMethod(lr=0.1)
    before = method.predict(frame, [{}])
    for _ in range(3):
        method.adapt(frame, [{}])
    learned = method.segmentor.weight.detach().clone()
    assert torch.equal(method.predict_reference(frame, [{}]), before)
    assert torch.equal(method.segmentor.weight, learned)


def test_a_guard_goes_on_from_its_state(frame):
    def run(stop):
        method = ToyMethod(lr=0.05)
        guard = UpdateGuard(check_every=2, window=2, min_agreement=0.9, margin=0.05)
        events = []
        for index in range(30):
            if index == stop:
                states = method.method_state(), guard.state_dict()
                method, guard = ToyMethod(lr=0.05), UpdateGuard(2, 0.9, window=2, margin=0.05)
                method.load_method_state(states[0])
                guard.load_state_dict(states[1])
            watch(guard, method, frame, index)
            events += guard.take_events()
        return events, method.segmentor.weight.detach()

    events, weight = run(stop=None)
    assert events
    for stop in (1, 9, 17):
        resumed_events, resumed_weight = run(stop)
        assert resumed_events == events
        assert torch.equal(resumed_weight, weight)


def test_wrong_limits_are_refused():
    with pytest.raises(ValueError, match='min_drift'):
        UpdateGuard(min_drift=-0.1)
    with pytest.raises(ValueError, match='from 0 to 1'):
        UpdateGuard(min_agreement=55)
    with pytest.raises(ValueError, match='check_every'):
        UpdateGuard(check_every=0)


def test_what_it_keeps_is_told(frame):
    method, guard = ToyMethod(), UpdateGuard()
    assert guard.kept_bytes == 0
    watch(guard, method, frame)
    assert guard.kept_bytes == 12 * 4


def one_class(frame):
    """A frame that is all of class 0."""
    bad = torch.zeros_like(frame)
    bad[:, 0] = 1
    return bad


class Hasty(ToyMethod):
    """Updates before it asks, as one that updates while it goes backward."""

    def adapt(self, inputs, metas):
        gate, self.gate = self.gate, None
        logits = GradientAdaptation.adapt(self, inputs, metas)
        if gate is not None:
            gate(logits)
        return logits


@pytest.mark.parametrize('kind', [ToyMethod, Hasty])
@pytest.mark.parametrize('bad', ['nan', 'one class'])
def test_bad_frames_in_a_row_leave_what_was_learned(frame, kind, bad):
    method, guard = kind(), UpdateGuard(check_every=3)
    start = method.segmentor.weight.detach().clone()
    for _ in range(9):
        watch(guard, method, frame)
    learned = guard._good['tensors']['parameter.weight'].clone()
    assert not torch.equal(learned, start) and kinds(guard) == []
    bad = frame * float('nan') if bad == 'nan' else one_class(frame)
    for _ in range(50):
        watch(guard, method, bad)
        assert not method.last_step.updated
    assert set(kinds(guard)) == ({'skip'} if kind is ToyMethod else {'rollback'})
    assert torch.equal(method.segmentor.weight, learned)
    watch(guard, method, frame)
    assert method.last_step.updated and kinds(guard) == []


def test_a_model_that_collapsed_between_two_checks_is_found(frame):
    method, guard = ToyMethod(), UpdateGuard(check_every=3)
    for _ in range(2):
        watch(guard, method, frame)
    with torch.no_grad():
        method.segmentor.weight[0] += 50
    for _ in range(3):
        watch(guard, method, frame)
    assert kinds(guard) == ['skip'] * 3 + ['rollback']
    watch(guard, method, frame)
    assert method.last_step.updated and kinds(guard) == []
    # And where the parameters that were kept are no better, all is reset.
    with torch.no_grad():
        method.segmentor.weight[0] += 50
    guard._good = method.method_state()
    for _ in range(6):
        watch(guard, method, frame)
    assert kinds(guard) == ['skip'] * 3 + ['rollback'] + ['skip'] * 3 + ['reset']
    watch(guard, method, frame)
    assert method.last_step.updated


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
        watch(guard, method, frame)
    assert kinds(guard) == []
    # One alone does not change the median of three; the second does.
    watch(guard, method, unclear)
    assert method.last_step.updated and kinds(guard) == []
    learned = guard._good['tensors']['parameter.weight'] if kind is Hasty else None
    before = method.segmentor.weight.detach().clone()
    for _ in range(40):
        watch(guard, method, unclear)
        assert not method.last_step.updated
    expected = before if kind is ToyMethod else learned
    assert torch.equal(method.segmentor.weight, expected)
    assert set(kinds(guard)) == ({'skip'} if kind is ToyMethod else {'rollback'})
    # And the first good ones after it, until they are the median.
    watch(guard, method, frame)
    assert not method.last_step.updated
    watch(guard, method, frame)
    assert method.last_step.updated


@pytest.mark.parametrize(
    'drift, updated', [(None, [True, False]), (0.3, [False, False]), (0.1, [True, True])]
)
def test_unclear_frames_that_the_norms_half_know_are_learned_from(frame, drift, updated):
    method = ToyMethod(lr=1e-4)
    guard = UpdateGuard(max_entropy=0.9, max_far_entropy=0.8, min_drift=0.2)
    method.norm_drift = lambda: drift
    for _ in range(6):
        watch(guard, method, frame)
        assert method.last_step.updated
    found = []
    for _ in range(2):
        watch(guard, method, blurred(frame, 0.02))
        found.append(method.last_step.updated)
    # Without a drift the median of three is judged, with one each frame alone.
    assert found == updated


def test_far_frames_have_a_limit_of_their_own(frame):
    unclear = blurred(frame, 0.65)
    for limit, updated in ((0.85, True), (0.75, False)):
        method = ToyMethod(lr=1e-4)
        guard = UpdateGuard(max_entropy=0.9, max_far_entropy=limit, min_drift=0.2)
        method.norm_drift = lambda: 0.3
        for _ in range(6):
            watch(guard, method, blurred(frame, 2.0))
        assert 0.75 < entropy_share(method, unclear) < 0.85
        watch(guard, method, unclear)
        assert method.last_step.updated == updated


def test_a_stream_that_is_unclear_by_nature_is_learned_from(frame):
    method, guard = ToyMethod(lr=1e-4), UpdateGuard(max_entropy=0.9)
    unclear = blurred(frame, 0.02)
    for _ in range(60):
        watch(guard, method, unclear)
        assert method.last_step.updated
    assert kinds(guard) == [] and len(guard.state_dict()['entropies']['usual']) == 50


def test_a_model_that_lost_its_certainty_is_rolled_back(frame):
    method, guard = ToyMethod(lr=1e-4), UpdateGuard(check_every=3, max_entropy=0.9)
    for _ in range(6):
        watch(guard, method, frame)
    good = guard._good['tensors']['parameter.weight'].clone()
    with torch.no_grad():
        method.segmentor.weight.mul_(1e-3)
    for _ in range(4):
        watch(guard, method, frame)
    events = guard.take_events()
    assert [event['event'] for event in events] == ['skip'] * 3 + ['rollback']
    assert 'not in the prediction of the source' in events[-1]['reason']
    assert torch.equal(method.segmentor.weight, good)


def test_the_limit_is_of_ln_c_or_what_is_usual(frame):
    method, guard = ToyMethod(lr=1e-6), UpdateGuard(max_entropy=0.3)
    for _ in range(3):
        watch(guard, method, frame)
    assert guard.entropies.limit() == pytest.approx(1.25 * entropy_share(method, frame), rel=1e-3)
    guard = UpdateGuard(max_entropy=0.95)
    for _ in range(3):
        watch(guard, method, frame)
    assert guard.entropies.limit() == 0.95
    # Turned off, a frame without any content is learned from.
    for limit, updated in ((1.0, True), (0.95, False)):
        guard = UpdateGuard(max_entropy=limit, max_class_share=1.0)
        for index in range(9):
            watch(guard, method, frame if index < 6 else torch.zeros_like(frame))
        assert method.last_step.updated == updated


def test_a_reset_does_not_open_the_door_to_unclear_frames(frame):
    method, guard = ToyMethod(lr=1e-4), UpdateGuard(check_every=3, max_entropy=0.9)
    for _ in range(6):
        watch(guard, method, frame)
    limit = guard.entropies.limit()
    for event in ('rollback', 'reset'):
        guard._go_back(method, [{}], 'a test')
        assert kinds(guard) == [event] and guard.entropies.limit() == limit == 0.9
    for _ in range(3):
        watch(guard, method, blurred(frame, 0.02))
    assert kinds(guard) == ['skip'] * 3


@pytest.mark.parametrize('share, updated', [(0.39, True), (0.41, False)])
def test_severe_rain_is_learned_from_by_the_default_limit(frame, share, updated):
    # SegFormer-B0 with batch statistics is at 0.39 there, and at 0.25 in the fog before.
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
        watch(guard, method, at(0.25))
    for _ in range(3):
        watch(guard, method, at(share))
    assert method.last_step.updated == updated
    assert set(kinds(guard)) == (set() if updated else {'skip'})


def test_where_nothing_is_learned_unclear_frames_are_no_events(frame):
    method, guard = SourceModel(ToySegmentor()), UpdateGuard(max_entropy=0.9)
    for _ in range(3):
        watch(guard, method, frame)
    for _ in range(20):
        watch(guard, method, blurred(frame, 0.02))
    assert kinds(guard) == []
    watch(guard, method, frame * float('nan'))
    assert kinds(guard) == ['skip']
