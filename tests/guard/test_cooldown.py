"""Pauses of learning after resets that follow each other closely."""

import pytest
import torch

from ecotta_seg.guard.cooldown import Cooldown
from ecotta_seg.guard.guard import UpdateGuard
from ecotta_seg.layers.prediction_statistics import mask_agreement
from ecotta_seg.names.old_names import OldNameWarning
from tests.guard.toy_method import ToyMethod, four_quarters, guarded_adapt


def _drive(cooldown, total, astray_after):
    """Cooldowns of a stream whose method is set back after so many frames of learning."""
    cooldowns, learned = [], 0
    for index in range(total):
        if cooldown.pauses_frame():
            continue
        learned += 1
        if learned == astray_after:
            cooldowns.append((index, cooldown.after_reset()))
            learned = 0
    return cooldowns


def test_the_first_reset_has_none_and_each_close_one_twice_as_many():
    cooldowns = _drive(Cooldown(120), 2000, astray_after=60)
    # By hand: 60 frames, 60 frames, 120 of cooldown, 60 frames, 240 of cooldown, ...
    assert cooldowns == [(59, 0), (119, 120), (299, 240), (599, 480), (1139, 960)]


def test_of_an_endless_stream_ever_less_is_spent_astray():
    cooldowns = _drive(Cooldown(120), 10**6, astray_after=60)
    assert 10 < len(cooldowns) < 16
    assert len(_drive(Cooldown(0), 10**4, astray_after=60)) == 10**4 // 60


def test_a_reset_after_long_learning_has_none_and_forgets_the_earlier_ones():
    cooldown = Cooldown(120)
    assert {frames for _, frames in _drive(cooldown, 5000, astray_after=121)} == {0}
    cooldown.forget()
    assert _drive(cooldown, 300, astray_after=60)[-1] == (299, 240)
    for _ in range(240):
        assert cooldown.pauses_frame()
    for _ in range(120):
        assert not cooldown.pauses_frame()
    assert cooldown.after_reset() == 0
    cooldown.pauses_frame()
    assert cooldown.after_reset() == 120


def _stream(guard, method, frame, frames, first=0):
    """Whether each frame was predicted as by the start, and learned from; the guard's events."""
    reference = method.predict_reference(frame, [{}]).argmax(1)
    agreed, learned = [], []
    for index in range(first, first + frames):
        logits = guarded_adapt(guard, method, frame, index)
        agreed.append(float(mask_agreement(logits.argmax(1), reference)) > 0.99)
        learned.append(method.last_step.updated)
    return agreed, learned, guard.take_events()


def _guard(cooldown):
    return UpdateGuard(
        check_every=2,
        window=2,
        min_agreement=0.9,
        margin=0.05,
        max_class_share=1,
        cooldown=cooldown,
    )


def test_a_method_that_ruins_itself_again_and_again_is_mostly_its_start():
    frame = four_quarters()
    always, _, events = _stream(_guard(0), ToyMethod(lr=1.0), frame, 400)
    assert sum(always) <= 200 and not any('close' in event['reason'] for event in events)
    method = ToyMethod(lr=1.0)
    start = method.segmentor.weight.detach().clone()
    paused, learned, events = _stream(_guard(20), method, frame, 400)
    assert sum(paused) > 340
    cooldowns = [event for event in events if 'the last reset was recent' in event['reason']]
    assert [event['event'] for event in cooldowns] == ['reset'] * len(cooldowns)
    # Eight frames from each start to the next reset.
    assert [event['stream_index'] for event in cooldowns] == [15, 43, 91, 179, 347]
    assert [int(event['reason'].split('pauses for ')[1].split()[0]) for event in cooldowns] == [
        20, 40, 80, 160, 320
    ]  # fmt: skip
    for event, frames in zip(cooldowns, (20, 40, 80, 160)):
        begin = event['stream_index'] + 1
        assert not any(learned[begin : begin + frames]) and learned[begin + frames]
        assert all(paused[begin : begin + frames])
    # Of the last cooldown the stream has seen a part.
    assert torch.equal(method.segmentor.weight, start) and not learned[-1]


@pytest.mark.parametrize('cut', [25, 31, 45])
def test_a_cooldown_continues_where_it_was_cut_off(cut):
    frame = four_quarters()
    whole, method = ToyMethod(lr=1.0), ToyMethod(lr=1.0)
    guard = _guard(20)
    expected = _stream(guard, whole, frame, 120)
    first = _guard(20)
    _stream(first, method, frame, cut)
    state = first.state_dict(), method.method_state()
    second, again = _guard(20), ToyMethod(lr=1.0)
    second.load_state_dict(state[0])
    again.load_method_state(state[1])
    agreed, learned, events = _stream(second, again, frame, 120 - cut, first=cut)
    assert (agreed, learned) == (expected[0][cut:], expected[1][cut:])
    assert events == [event for event in expected[2] if event['stream_index'] >= cut]
    assert torch.equal(again.segmentor.weight, whole.segmentor.weight)


def test_a_cooldown_below_nothing_is_refused():
    with pytest.raises(ValueError, match='cooldown from 0, got -1'):
        UpdateGuard(cooldown=-1)


def test_the_old_name_of_the_option_is_read_with_a_warning():
    with pytest.warns(OldNameWarning, match='`rest` is now called `cooldown`'):
        assert UpdateGuard(rest=7).cooldown.frames == 7
