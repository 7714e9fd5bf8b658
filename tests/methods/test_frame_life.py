"""What happens to a frame, in order: a recording method and guard against the written order."""

import pytest
import torch
from mmengine.hooks import Hook
from mmengine.runner.priority import get_priority
from mmseg.structures import SegDataSample

from ecotta_seg import hooks
from ecotta_seg.datasets.checks.frame_check import FrameChecker
from ecotta_seg.methods import AdaptationMethod, build_method
from ecotta_seg.methods.frame_life import Turn, check_frame, frame_events, predict_and_learn
from ecotta_seg.methods.source import SourceModel
from ecotta_seg.methods.step_record import StepRecord
from tests.guard.toy_method import four_quarters
from tests.segmentors import build_segmentor

INPUTS, METAS = torch.zeros(1, 3, 4, 4), [{}]


class Recorded:
    """A method and a guard in one that record the calls."""

    predicts_after_update = False
    learned_from = None

    def __init__(self, pauses=False, accepts=True, fails=False):
        self.calls, self.judged = [], None
        self._pauses, self._accepts, self._fails = pauses, accepts, fails
        self.last_step = StepRecord()
        self.guard = None

    def pauses_frame(self, method):
        self.calls.append('pauses')
        return self._pauses

    def begin_frame(self):
        self.calls.append('begin')

    def propose(self, inputs, metas):
        self.calls.append('propose')
        if self._fails:
            raise RuntimeError('no memory')
        return torch.zeros(1)

    def accepts(self, method, inputs, metas, logits):
        self.calls.append('accepts')
        self.judged = logits
        return self._accepts

    def update(self):
        self.calls.append('update')
        self.last_step.updated = True

    def discard(self):
        self.calls.append('discard')

    def after_update(self, method, inputs, metas, logits):
        self.calls.append('after')
        return logits + 1

    def predict(self, inputs, metas):
        self.calls.append('predict')
        return torch.full((1,), 7.0)

    predict_frame = predict


@pytest.mark.parametrize(('options', 'calls'), [
    ({}, 'pauses begin propose accepts update discard after'),
    (dict(accepts=False), 'pauses begin propose accepts discard after'),
    (dict(pauses=True), 'pauses predict'),
])  # fmt: skip
def test_a_guarded_frame(options, calls):
    method = Recorded(**options)
    logits = predict_and_learn(method, INPUTS, METAS, method)
    assert method.calls == calls.split()
    assert logits == (7 if options.get('pauses') else 1)


def test_a_frame_without_a_guard():
    method = Recorded()
    assert predict_and_learn(method, INPUTS, METAS) == 0
    assert method.calls == ['begin', 'propose', 'update', 'discard']


def test_an_error_leaves_nothing_of_the_frame():
    method = Recorded(fails=True)
    with pytest.raises(RuntimeError, match='no memory'):
        predict_and_learn(method, INPUTS, METAS, method)
    assert method.calls[-1] == 'discard' and 'update' not in method.calls


@pytest.mark.parametrize('accepts', [True, False])
def test_a_prediction_after_the_update(accepts):
    method = Recorded(accepts=accepts)
    method.predicts_after_update = True
    logits = predict_and_learn(method, INPUTS, METAS, method)
    assert logits == (7 if accepts else 1) and ('predict' in method.calls) == accepts


def test_the_guard_judges_what_the_update_was_learned_from(frames):
    images, metas = frames
    options = dict(type='cotta', views=2, optimizer=dict(type='SGD', lr=1e-3))
    method = build_method(options, build_segmentor('deeplab')).eval()
    with torch.no_grad():
        student = method.segmentor.encode_decode(images[0], metas)
    guard = Recorded()
    predict_and_learn(method, images[0], metas, guard)
    assert torch.allclose(guard.judged, student, atol=1e-6)
    assert method.learned_from is None


def test_a_method_that_overrides_adapt_is_refused(segmentor):
    def adapt(self, inputs, metas):
        return self.predict(inputs, metas)

    for base in (AdaptationMethod, SourceModel):
        with pytest.raises(TypeError, match='overrides `propose`, but Old overrides `adapt`'):
            type('Old', (base,), dict(adapt=adapt))(segmentor)


def test_bad_frames_are_marked_and_finite():
    checker, sample = FrameChecker(), SegDataSample()
    image = four_quarters()[0] * 100
    assert check_frame(checker, image, sample) is None and 'frame_fault' not in sample.metainfo
    image[0, 0, 0] = float('nan')
    fault = check_frame(checker, image, sample)
    assert fault == sample.metainfo['frame_fault'] and image.isfinite().all()
    # A fault that the data set has found needs no checker.
    assert check_frame(None, four_quarters()[0], sample) == fault


def test_the_events_of_a_frame_are_told_once():
    class Guard:
        def take_events(self):
            return [{'event': 'skip'}]

    method = Recorded()
    assert frame_events(method, 3) == []
    method.guard, method.last_step.own_reset = Guard(), 'as told'
    own = {'event': 'own_reset', 'stream_index': 3, 'reason': 'as told'}
    assert frame_events(method, 3) == [own, {'event': 'skip'}]
    assert frame_events(method, 3) == [{'event': 'skip'}]


def test_each_hook_has_its_turn():
    found = [value for value in vars(hooks).values() if isinstance(value, type)]
    found = [kind for kind in found if issubclass(kind, Hook)]
    assert len(found) > 15
    without = [kind.__name__ for kind in found if not isinstance(kind.priority, Turn)]
    assert sorted(without) == ['SafeCheckpointHook', 'WarmUpHook']  # Of the warm-up.
    assert get_priority(Turn.SAVE) == get_priority('LOWEST')
    assert list(Turn) == sorted(Turn)


def test_no_method_mentions_the_guard():
    kinds = AdaptationMethod.__subclasses__()
    for kind in kinds:
        kinds += [inner for inner in kind.__subclasses__() if inner not in kinds]
    for kind in kinds:
        if kind.__module__.startswith('ecotta_seg.'):
            for name, function in vars(kind).items():
                names = getattr(getattr(function, '__code__', None), 'co_names', ())
                assert 'guard' not in names, f'{kind.__name__}.{name}'
