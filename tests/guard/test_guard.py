import pytest
import torch

from ecotta_seg.guard.guard import UpdateGuard
from ecotta_seg.layers.prediction_statistics import mask_agreement
from ecotta_seg.methods import build_method
from ecotta_seg.methods.frame_life import predict_and_learn
from ecotta_seg.methods.step_record import StepRecord
from tests.guard.toy_method import Hasty, ToyMethod, four_quarters, guarded_adapt, kinds
from tests.segmentors import build_segmentor


@pytest.fixture
def frame():
    return four_quarters()


def one_class(frame):
    """A frame that is all of class 0."""
    bad = torch.zeros_like(frame)
    bad[:, 0] = 1
    return bad


def test_a_healthy_stream_is_left_alone(frame):
    guarded, plain = ToyMethod(lr=1e-3), ToyMethod(lr=1e-3)
    guard = UpdateGuard(check_every=2)
    for index in range(12):
        first = guarded_adapt(guard, guarded, frame, index)
        assert torch.equal(first, plain.adapt(frame, [{}]))
    assert torch.equal(guarded.segmentor.weight, plain.segmentor.weight)
    assert kinds(guard) == []


@pytest.mark.parametrize('image', ['nan', 'one class'])
def test_an_update_on_a_bad_prediction_is_skipped(frame, image):
    method, guard = ToyMethod(), UpdateGuard()
    guarded_adapt(guard, method, frame)
    before = method.method_state()
    bad = frame * float('nan')
    if image == 'one class':
        bad = one_class(frame)
    guarded_adapt(guard, method, bad, index=7)
    (event,) = guard.take_events()
    assert event['event'] == 'skip' and event['stream_index'] == 7
    assert not method.last_step.updated
    assert torch.equal(method.segmentor.weight, before['tensors']['parameter.weight'])
    guarded_adapt(guard, method, frame)
    assert method.last_step.updated


def test_a_loss_that_is_not_finite_never_reaches_the_weights(frame):
    method, guard = ToyMethod(), UpdateGuard()
    guarded_adapt(guard, method, frame)
    weight = method.segmentor.weight.detach().clone()
    method.spoil = 'loss'
    guarded_adapt(guard, method, frame)
    assert kinds(guard) == ['skip']
    assert torch.equal(method.segmentor.weight, weight)


def test_an_update_before_the_guards_check_is_rolled_back(frame):
    method, guard = Hasty(), UpdateGuard()
    guarded_adapt(guard, method, frame)
    method.spoil = 'loss'
    guarded_adapt(guard, method, frame)
    assert kinds(guard) == ['rollback']
    assert method.segmentor.weight.isfinite().all()
    assert not method.last_step.updated


def test_broken_weights_are_rolled_back_and_the_frame_predicted_again(frame):
    method, guard = ToyMethod(), UpdateGuard()
    start = method.method_state()
    guarded_adapt(guard, method, frame)
    method.spoil = 'weights'
    logits = guarded_adapt(guard, method, frame)
    assert logits.isfinite().all()
    assert kinds(guard) == ['rollback']
    assert torch.equal(method.segmentor.weight, start['tensors']['parameter.weight'])


def test_drift_is_rolled_back_and_then_reset(frame):
    method = ToyMethod(lr=0.05)
    start = method.segmentor.weight.detach().clone()
    guard = UpdateGuard(check_every=1, window=1, min_agreement=0.9, margin=0.05)
    seen = []
    for index in range(60):
        guarded_adapt(guard, method, frame, index)
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
        guarded_adapt(guard, method, frame)
        method.segmentor.weight[0, 1] = 3.5
    guarded_adapt(guard, method, frame)
    assert (method.predict(frame, [{}]).argmax(1) == 0).all() == (not events)
    assert kinds(guard) == events[:1]


def test_a_model_that_gets_certain_of_everything_is_taken_back(frame):
    class Sharpens(ToyMethod):
        def learn(self, logits, share):
            (-(logits.softmax(1).max(1).values).mean() * share).backward()

    method = Sharpens(lr=20.0)
    guard = UpdateGuard(check_every=1, window=1, min_agreement=0, margin=0, max_diversity_loss=9)
    for _ in range(30):
        guarded_adapt(guard, method, frame)
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
            guarded_adapt(guard, method, frame, index)
            events += guard.take_events()
        return events, method.segmentor.weight.detach()

    events, weight = run(stop=None)
    assert events
    for stop in (1, 9, 17):
        resumed_events, resumed_weight = run(stop)
        assert resumed_events == events
        assert torch.equal(resumed_weight, weight)


def test_wrong_limits_are_refused():
    with pytest.raises(ValueError, match='from 0 to 1'):
        UpdateGuard(min_agreement=55)
    with pytest.raises(ValueError, match='check_every'):
        UpdateGuard(check_every=0)


def test_what_it_keeps_is_told(frame):
    method, guard = ToyMethod(), UpdateGuard()
    assert guard.kept_bytes == 0
    guarded_adapt(guard, method, frame)
    assert guard.kept_bytes == 12 * 4


@pytest.mark.parametrize('kind', [ToyMethod, Hasty])
@pytest.mark.parametrize('bad', ['nan', 'one class'])
def test_bad_frames_in_a_row_leave_what_was_learned(frame, kind, bad):
    method, guard = kind(), UpdateGuard(check_every=3)
    start = method.segmentor.weight.detach().clone()
    for _ in range(9):
        guarded_adapt(guard, method, frame)
    learned = guard._good['tensors']['parameter.weight'].clone()
    assert not torch.equal(learned, start) and kinds(guard) == []
    bad = frame * float('nan') if bad == 'nan' else one_class(frame)
    for _ in range(50):
        guarded_adapt(guard, method, bad)
        assert not method.last_step.updated
    assert set(kinds(guard)) == ({'skip'} if kind is ToyMethod else {'rollback'})
    assert torch.equal(method.segmentor.weight, learned)
    guarded_adapt(guard, method, frame)
    assert method.last_step.updated and kinds(guard) == []


def test_a_model_that_collapsed_between_two_checks_is_found(frame):
    method, guard = ToyMethod(), UpdateGuard(check_every=3)
    for _ in range(2):
        guarded_adapt(guard, method, frame)
    with torch.no_grad():
        method.segmentor.weight[0] += 50
    for _ in range(3):
        guarded_adapt(guard, method, frame)
    assert kinds(guard) == ['skip'] * 3 + ['rollback']
    guarded_adapt(guard, method, frame)
    assert method.last_step.updated and kinds(guard) == []
    # And where the parameters that were kept are no better, all is reset.
    with torch.no_grad():
        method.segmentor.weight[0] += 50
    guard._good = method.method_state()
    for _ in range(6):
        guarded_adapt(guard, method, frame)
    assert kinds(guard) == ['skip'] * 3 + ['rollback'] + ['skip'] * 3 + ['reset']
    guarded_adapt(guard, method, frame)
    assert method.last_step.updated


class StartsAnew(ToyMethod):
    """Goes back to its start of itself when told to: before its step as RDumb, or after as SAR."""

    when = None

    def begin_frame(self):
        self.last_step = StepRecord()
        if self.when == 'before':
            self.begin()

    def update(self):
        super().update()
        if self.when == 'after':
            self.begin()

    def discard(self):
        super().discard()
        self.when = None

    def begin(self):
        self.reset()
        self.last_step.own_reset = 'told to'


class HastyStartsAnew(StartsAnew, Hasty):
    """The same of a method that updates within ``propose``."""


def _learned(kind, frame, **limits):
    """A method that has learned, with what it learned kept as good; and its weight at the start."""
    method, guard = kind(), UpdateGuard(check_every=4, **limits)
    start = method.segmentor.weight.detach().clone()
    for _ in range(8):
        guarded_adapt(guard, method, frame)
    assert not torch.equal(guard._good['tensors']['parameter.weight'], start)
    assert kinds(guard) == []
    return method, guard, start


@pytest.mark.parametrize('when', ['before', 'after'])
def test_a_fault_after_a_methods_own_reset_does_not_bring_back_what_was_before(frame, when):
    method, guard, start = _learned(StartsAnew, frame)
    method.when = when
    guarded_adapt(guard, method, frame)
    anew = method.segmentor.weight.detach().clone()
    assert torch.equal(guard._good['tensors']['parameter.weight'], anew) and kinds(guard) == []
    assert torch.equal(anew, start) == (when == 'after')
    method.spoil = 'weights'
    guarded_adapt(guard, method, frame)
    assert kinds(guard) == ['rollback']
    assert torch.equal(method.segmentor.weight, anew)


@pytest.mark.parametrize(('kind', 'spoil'), [
    (StartsAnew, 'weights'), (StartsAnew, 'loss'), (StartsAnew, 'one class'),
    (HastyStartsAnew, 'loss'), (HastyStartsAnew, 'one class'),
])  # fmt: skip
def test_a_fault_in_the_frame_of_a_methods_own_reset_leaves_the_start(frame, kind, spoil):
    method, guard, start = _learned(kind, frame)
    method.when = 'before'
    if spoil == 'one class':
        guarded_adapt(guard, method, one_class(frame))
    else:
        method.spoil = spoil
        guarded_adapt(guard, method, frame)
    asked_first = kind is StartsAnew and spoil != 'weights'
    assert kinds(guard) == ['skip' if asked_first else 'reset']
    assert torch.equal(method.segmentor.weight, start) and not method.last_step.updated
    assert torch.equal(guard._good['tensors']['parameter.weight'], start)
    method.spoil = None
    guarded_adapt(guard, method, frame)
    assert method.last_step.updated and kinds(guard) == []


def test_checks_and_entropies_begin_anew_with_the_method(frame):
    method, guard, _ = _learned(StartsAnew, frame)
    first = list(guard.entropies._first)
    assert len(guard._checks) == 2 and len(guard.entropies._usual) == 8
    method.when = 'after'
    guarded_adapt(guard, method, frame)
    assert not guard._checks and list(guard.entropies._usual) == first
    guarded_adapt(guard, method, frame)
    method.when = 'before'
    guarded_adapt(guard, method, frame)
    # The frame was predicted and learned from by what began anew.
    assert len(guard.entropies._usual) == 2 and list(guard.entropies._last) == first


def test_a_reset_of_rdumbs_is_not_undone(frames):
    noise, metas = frames
    images = [torch.nn.functional.avg_pool2d(image, 9, 1, 4) for image in noise]
    tent = dict(type='tent', optimizer=dict(type='Adam', lr=1e-3))
    method = build_method(dict(tent, reset_every=5), build_segmentor('deeplab'))
    guard = UpdateGuard(check_every=4, window=1, min_agreement=0.1, margin=0.0, max_class_share=1)
    start = method.method_state()['tensors']
    update = method.update

    def ruin():
        update()
        with torch.no_grad():
            next(iter(method.adaptable_parameters().values())).fill_(float('nan'))

    for index, image in enumerate(images[:6]):
        method.last_step = StepRecord()
        method.update = ruin if index == 5 else update
        predict_and_learn(method, image, metas, guard)
    assert method.last_step.own_reset is not None and kinds(guard) == ['reset']
    now = method.method_state()['tensors']
    assert all(torch.equal(now[name], start[name]) for name in start)
