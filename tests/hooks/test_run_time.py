"""The estimate of a run's duration, on streams whose durations are known."""

import itertools
import re
import time

import pytest
from mmengine.hooks import Hook

from ecotta_seg.hooks import forgetting_hook, progress
from ecotta_seg.hooks.run_time import RunTime, StreamSize, advice, describe, duration, number
from tests.hooks.test_core_hooks import _runner
from tests.tools.conftest import project  # noqa: F401  (a fixture)


class Clock:
    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


def _run(first_round, later, seconds, beside, metered=3):
    """Goes through a whole stream; gives the estimate, and the frame after which it came."""
    clock = Clock()
    run, told = RunTime(first_round, later, clock), None
    for frame in range(first_round + later):
        first = frame < first_round
        clock.now += seconds + (beside if first else 0) + (7 if frame < metered else 0)
        new = run.end_of_frame(first, frame >= metered, beside if first else 0.0)
        if new:
            assert told is None, 'there is one estimate'
            told = frame, run.stream_seconds, run.frame_seconds
    return told, clock.now - 100


@pytest.mark.parametrize(('first_round', 'later', 'seconds', 'beside'), [
    (40, 0, 0.5, 0.25), (40, 360, 0.5, 0.25), (1604, 14436, 2.0, 1.0), (0, 60, 1.0, 0.0),
])  # fmt: skip
def test_the_estimate_is_the_duration(first_round, later, seconds, beside):
    (frame, estimate, of_frames), took = _run(first_round, later, seconds, beside)
    assert estimate == pytest.approx(took)
    first = seconds + (beside if first_round else 0)
    assert of_frames == pytest.approx((first, seconds))
    assert frame == 7, 'five frames after the three of the meter'


def test_slow_frames_need_not_be_waited_for():
    (frame, estimate, _), took = _run(400, 1204, 92.0, 30.0)
    assert frame == 3 and estimate == pytest.approx(took)
    (frame, _, _), _ = _run(400, 0, 92.0, 30.0, metered=0)
    assert frame == 1, 'the first frame is no measure'


def test_a_short_stream_has_no_estimate():
    assert _run(6, 0, 1.0, 0.0)[0] is None


@pytest.mark.parametrize('size', [
    StreamSize(401, 4, 1), StreamSize(401, 4, 10), StreamSize(100, 4, 3), StreamSize(30, 1, 10),
])  # fmt: skip
@pytest.mark.parametrize('seconds', [(0.9, 0.5), (9.0, 5.0), (92.0, 60.0)])
@pytest.mark.parametrize('clear', [0.0, 600.0, 7200.0])
def test_the_advice_holds_what_it_says(size, seconds, clear):
    text = advice(size, seconds, clear)
    words = text.strip('`').split('`')[0].split()
    assert ('forgetting_dataloader=None' in text) == (clear > 900 and bool(text))
    kept = 0 if 'None' in text else clear
    if not text:
        one_round = size.conditions * seconds[0]
        whole = size.frames * (one_round + size.conditions * (size.rounds - 1) * seconds[1])
        assert one_round + clear > 1800 or whole + clear <= 1800
        return
    frames = int(words[words.index('--frames') + 1]) if '--frames' in words else size.frames
    rounds = 1 if '--rounds' in words else size.rounds
    each = itertools.chain([seconds[0]], itertools.repeat(seconds[1], rounds - 1))
    expected = frames * size.conditions * sum(each) + kept
    assert frames <= size.frames and expected <= 1800
    assert text.endswith(f'takes about {duration(expected)}')


def test_the_sentence():
    said = describe(41 * 3600, 1604, 92.0, 1171 * 2**20, 4000.0)
    assert said == (
        'about 41 h for 1604 frames (92 s a frame, peak memory of a step 1171 MiB above the '
        'parameters, the clear day takes 67 min of it)'
    )
    assert describe(90, 30, 3.0, None, 0.0) == 'about 1.5 min for 30 frames (3 s a frame)'


@pytest.mark.parametrize(('seconds', 'text'), [
    (0.26, '0.26 s'), (40.4, '40 s'), (90, '1.5 min'), (25 * 60, '25 min'), (5400, '1.5 h'),
    (41.2 * 3600, '41 h'), (3 * 86400, '3 days'),
])  # fmt: skip
def test_durations(seconds, text):
    assert duration(seconds) == text


def test_numbers():
    assert [number(value) for value in (0.034, 3.0, 9.96, 51.4)] == ['0.034', '3', '10', '51']


class SlowFrames(Hook):
    def before_test_iter(self, runner, batch_idx, data_batch=None):
        time.sleep(0.3)


@pytest.mark.slow
def test_a_run_tells_its_duration(project, tmp_path, monkeypatch):  # noqa: F811
    monkeypatch.setattr(progress, 'LONG', 0.5)
    monkeypatch.setattr(progress, 'SHORT', 0.5)
    names = ('SourceReference', 'EcoTTA', 'Forgetting', 'Memory', 'StreamProgress')
    hooks = [dict(type=f'{name}Hook') for name in names]
    runner = _runner(project, tmp_path, hooks, **{'test_dataloader.dataset.rounds': 2})
    runner.register_hook(SlowFrames())
    said = []
    monkeypatch.setattr(runner.logger, 'info', said.append)
    start = time.perf_counter()
    runner.test()
    took = time.perf_counter() - start
    (text,) = (line for line in said if ' a frame' in str(line))
    found = re.fullmatch(
        r'about ([\d.]+) s for 12 frames \(([\d.]+) s a frame, peak memory of a step ([\d.]+) MiB '
        r'above the parameters.*\); `--rounds 1` takes about .*',
        text,
    )
    total, of_frame, peak = map(float, found.groups())
    assert 12 * 0.3 <= total < 1.5 * took and 0.3 <= of_frame < took / 12 * 1.5
    measured = runner.message_hub.get_info('ecotta_seg/memory')['adaptation_peak_bytes']
    assert peak == pytest.approx(measured / 2**20, rel=0.3)


def test_a_long_clear_day_is_told_before_it_is_over(project, tmp_path, monkeypatch):  # noqa: F811
    monkeypatch.setattr(forgetting_hook, 'LONG', 0.0)
    monkeypatch.setattr(forgetting_hook, '_TIMED', 1)
    hooks = [dict(type=f'{name}Hook') for name in ('SourceReference', 'EcoTTA', 'Forgetting')]
    runner, said = _runner(project, tmp_path, hooks), []
    monkeypatch.setattr(runner.logger, 'info', said.append)
    runner.call_hook('before_test')
    (text,) = (line for line in said if 'the clear day takes' in str(line))
    assert '(3 passes over 3 frames, before and after the stream)' in text
    assert 'and the 6 frames of the stream at least' in text
