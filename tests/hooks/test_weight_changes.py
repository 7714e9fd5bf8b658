"""Hooks that exchange the weights of a model at test: settled, refused or undone."""

import pytest
import torch
from mmengine.hooks import EMAHook, Hook
from mmengine.registry import HOOKS

from tests.hooks.test_core_hooks import _runner
from tests.tools.conftest import project  # noqa: F401  (a fixture)

OURS = [
    dict(type='SourceReferenceHook', references={}),
    dict(type='EcoTTAHook'),
    dict(type='ForgettingHook'),
]


def _results(runner):
    runner.test()
    hub = runner.message_hub
    keys = ('ecotta_seg/source', 'ecotta_seg/clear')
    scores = runner.test_evaluator.metrics[0].rounds
    return scores, [hub.get_info(key) for key in keys]


@HOOKS.register_module(force=True)
class OwnAverage(EMAHook):
    """A subclass, as libraries have them."""


class Exchange(Hook):
    """Exchanges the weights with a copy at one moment of the test."""

    def __init__(self, moment, priority='NORMAL', change=0.0):
        self.priority = priority
        self.change = change
        setattr(self, moment, self.exchange)

    def before_run(self, runner):
        self.weights = list(runner.model.state_dict().values())
        self.copied = [tensor + tensor.new_tensor(self.change) for tensor in self.weights]

    def exchange(self, runner, *args, **kwargs):
        for tensor, other in zip(self.weights, self.copied):
            tensor.copy_(other)


@pytest.mark.parametrize('method', ['ecotta', 'tent'])
@pytest.mark.parametrize('hook', ['EMAHook', 'OwnAverage'])
def test_an_average_changes_no_score(project, tmp_path, method, hook):  # noqa: F811
    found = []
    for more in ([], [dict(type=hook, momentum=0.1)]):
        # One after the other: meta networks are drawn when the test begins.
        runner = _runner(project, tmp_path / str(len(more)), [*OURS, *more])
        if method == 'tent':
            runner.cfg.adaptation = dict(type='tent', optimizer=dict(type='SGD', lr=0.5))
        found.append(_results(runner))
    clear = found[0][1][1]
    assert clear['after'] != clear['source'], 'the stream has to leave its mark on the clear day'
    assert found[0] == found[1]


def test_an_average_of_its_own_is_what_is_measured(project, tmp_path):  # noqa: F811
    """The weights that mmengine would test, as source and as what is adapted."""
    runner = _runner(project, tmp_path / 'a', [*OURS, dict(type='EMAHook', momentum=0.1)])
    (hook,) = [hook for hook in runner.hooks if isinstance(hook, EMAHook)]
    before_run = hook.before_run

    def with_another_average(runner):
        before_run(runner)
        with torch.no_grad():
            hook.ema_model.module.decode_head.conv_seg.weight.neg_()

    hook.before_run = with_another_average
    found = _results(runner)
    plain = _runner(project, tmp_path / 'b', OURS)
    with torch.no_grad():
        plain.model.decode_head.conv_seg.weight.neg_()
    assert found == _results(plain)


@pytest.mark.parametrize(('moment', 'priority'), [
    ('before_test', 'ABOVE_NORMAL'), ('before_test', 20), ('before_test_epoch', 'NORMAL'),
    ('before_test_epoch', 'VERY_HIGH'),
])  # fmt: skip
def test_other_weights_than_the_sources_are_refused(
    project, tmp_path, moment, priority  # noqa: F811
):  # fmt: skip
    runner = _runner(project, tmp_path, OURS)
    runner.register_hook(Exchange(moment, priority, change=1))
    with pytest.raises(ValueError, match='until the first frame, but a hook.*one of Exchange'):
        runner.test()


def test_weights_before_the_source_is_copied_are_its_own(project, tmp_path):  # noqa: F811
    runner = _runner(project, tmp_path, OURS)
    runner.register_hook(Exchange('before_test', 'HIGHEST', change=1))
    runner.test()


def test_what_is_exchanged_after_the_stream_is_put_back(project, tmp_path):  # noqa: F811
    expected = _results(_runner(project, tmp_path / 'a', OURS))
    runner = _runner(project, tmp_path / 'b', OURS)
    runner.register_hook(Exchange('after_test_epoch'))
    assert _results(runner) == expected
