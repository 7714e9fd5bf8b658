"""The warning that nothing was learned: when it comes, and what it names."""

from types import SimpleNamespace

import pytest

from ecotta_seg.hooks.learning_hook import LearningHook
from ecotta_seg.methods.step_record import StepRecord


def _warnings(records, rate=0.1, optimizer=True, adapting=True):
    """What a stream of steps makes the hook say."""
    said = []
    groups = SimpleNamespace(param_groups=[dict(lr=rate)]) if optimizer else None
    model = SimpleNamespace(optimizer=groups, adapting=adapting)
    runner = SimpleNamespace(model=model, hooks=[], logger=SimpleNamespace(warning=said.append))
    hook = LearningHook()
    hook.before_test_epoch(runner)
    for record in records:
        model.last_step = record
        hook.after_test_iter(runner, 0)
    hook.after_test_epoch(runner)
    return said


@pytest.mark.parametrize(
    ('record', 'rate', 'reason'),
    [
        (dict(confident_fraction=0.0), 0.1, 'no pixel of any frame'),
        ({}, 0.1, 'no pixel of any frame'),
        (dict(confident_fraction=0.5), 0.0, 'the learning rate is 0'),
        (dict(confident_fraction=0.5), 0.1, 'all gradients were 0, or the guard refused'),
    ],
)
def test_a_stream_without_an_update_is_told(record, rate, reason):
    (text,) = _warnings([StepRecord(**record)] * 3, rate)
    assert text.startswith('nothing was learned from any of 3 frames: ') and reason in text


def test_one_update_is_enough():
    records = [StepRecord(), StepRecord(updated=True, confident_fraction=0.1), StepRecord()]
    assert _warnings(records) == []


def test_what_learns_nothing_by_design_is_not_told():
    assert _warnings([StepRecord()], optimizer=False) == []
    assert _warnings([StepRecord()], adapting=False) == []
    assert _warnings([]) == []
