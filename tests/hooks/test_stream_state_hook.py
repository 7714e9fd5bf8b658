import errno
import importlib.util
import logging
import os
import re
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from mmengine.hooks import Hook

from ecotta_seg.hooks import StreamStateHook
from ecotta_seg.memory.engine.memory_engine import OptimizerInBackward
from ecotta_seg.resume.random_state import random_state, set_random_state
from ecotta_seg.resume.run_identity import differences
from ecotta_seg.resume.state_folder import StateFolder

SCRIPT = Path(__file__).resolve().parents[1] / 'kill_and_resume.py'
_spec = importlib.util.spec_from_file_location('kill_and_resume', SCRIPT)
harness = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(harness)


class StopsAt(Hook):
    """Does something after a frame, by default the user's Ctrl-C while the frame runs."""

    def __init__(self, frame, action=None):
        self.frame = frame
        self.action = action or (lambda runner: os.kill(os.getpid(), signal.SIGINT))
        self.frames = 0

    def after_test_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        self.frames += 1
        if self.frames == self.frame:
            self.action(runner)


@pytest.fixture(scope='module')
def place(tmp_path_factory):
    """The data and config of a small run, and the folder of one that was never stopped."""
    base = tmp_path_factory.mktemp('streams')
    harness.write_data(base / 'data', frames=4)
    config = harness.write_config(base / 'tent.py', 'tent', base / 'data')
    harness.run(config, base / 'whole')
    return base, config, harness.outcome(base / 'whole')


def stopped(config, work_dir, frame, action=None, error=KeyboardInterrupt, **changes):
    """Runs until the stop; gives back the names of the states."""
    hook = StopsAt(frame, action)
    with pytest.raises(error) as raised:
        harness.run(config, work_dir, hook=hook, **changes)
    return sorted(path.name for path in (work_dir / 'state').iterdir()), str(raised.value)


def test_a_signal_ends_the_frame_and_saves_and_resuming_ends_the_same(place, tmp_path):
    _, config, whole = place
    handlers = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    states, _ = stopped(config, tmp_path / 'run', 8)
    assert states == ['stream_state_rank0_00000006.pth', 'stream_state_rank0_00000008.pth']
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == handlers
    torch.manual_seed(99)
    harness.run(config, tmp_path / 'run', resume=True)
    assert harness.same(harness.outcome(tmp_path / 'run'), whole)


def test_a_compute_budget_goes_on_where_it_was(place, tmp_path):
    _, config, free = place
    budget = {'adaptation.compute_budget': '1.7x'}
    runner = harness.run(config, tmp_path / 'whole', **budget)
    whole = harness.outcome(tmp_path / 'whole')
    account = runner.model.compute_budget
    assert whole[0]['compute'] == account.to_dict()
    assert 0 < account.learned < account.frames == 16 and not harness.same(whole[2], free[2])
    # The account is not empty at the stop.
    stopped(
        config, tmp_path / 'run', 9, lambda runner: os.kill(os.getpid(), signal.SIGINT), **budget
    )
    resumed = harness.run(config, tmp_path / 'run', resume=True, **budget)
    assert harness.same(harness.outcome(tmp_path / 'run'), whole)
    assert resumed.model.compute_budget.state_dict() == account.state_dict()


def test_a_signal_while_a_state_is_written_ends_that_frame(place, tmp_path, monkeypatch):
    _, config, whole = place
    write, frames = StateFolder.write, []

    def interrupted(self, state):
        frames.append(state['position'])
        if frames == [3, 6]:
            os.kill(os.getpid(), signal.SIGINT)
        write(self, state)

    with monkeypatch.context() as patch:
        patch.setattr(StateFolder, 'write', interrupted)
        with pytest.raises(KeyboardInterrupt):
            harness.run(config, tmp_path / 'run')
    assert frames == [3, 6]
    harness.run(config, tmp_path / 'run', resume=True)
    assert harness.same(harness.outcome(tmp_path / 'run'), whole)


def test_sigterm_ends_the_process_with_its_own_exit_code(place, tmp_path):
    _, config, _ = place
    _, code = stopped(
        config,
        tmp_path / 'run',
        5,
        lambda runner: os.kill(os.getpid(), signal.SIGTERM),
        error=SystemExit,
    )
    assert code == str(128 + signal.SIGTERM)


@pytest.fixture(scope='module', params=harness.IN_PLACE)
def in_place(place, request):
    """A run whose updates are made piece by piece while going backward.

    Its config, its outcome, and the number of pieces of each of its 16 frames.
    """
    base, _, _ = place
    name = request.param
    config = harness.write_config(base / f'{name}.py', name.split('@')[0], base / 'data')
    deliver, pieces = OptimizerInBackward.__call__, []

    def counted(self, *piece):
        pieces.append(deliver(self, *piece))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(OptimizerInBackward, '__call__', counted)
        harness.run(config, base / f'{name}_whole')
    whole = harness.outcome(base / f'{name}_whole')
    assert sum(',True,' in line for line in whole[1].splitlines()) == 16
    assert len(pieces) % 16 == 0 and len(pieces) > 64
    return config, whole, len(pieces) // 16


@pytest.mark.slow
def test_a_stop_after_the_last_frame_loses_nothing(in_place, tmp_path):
    config, whole, _ = in_place
    states, _ = stopped(config, tmp_path / 'run', 16)
    assert states[-1] == 'stream_state_rank0_00000016.pth'
    harness.run(config, tmp_path / 'run', resume=True)
    assert harness.same(harness.outcome(tmp_path / 'run'), whole)


@pytest.mark.slow
@pytest.mark.parametrize(
    ('signals', 'error', 'saved'),
    [
        ([signal.SIGTERM], SystemExit, [6, 8]),
        ([signal.SIGINT], KeyboardInterrupt, [6, 8]),
        # The second one stops at once, in the middle of a frame: nothing of it is saved.
        ([signal.SIGINT, signal.SIGTERM], SystemExit, [3, 6]),
    ],
)
def test_a_signal_between_two_updates_in_place(
    in_place, tmp_path, monkeypatch, signals, error, saved
):
    config, whole, pieces = in_place
    deliver, done = OptimizerInBackward.__call__, []
    half = 7 * pieces + pieces // 2

    def interrupted(self, *piece):
        done.append(deliver(self, *piece))
        if len(done) == half:
            for number in signals:
                os.kill(os.getpid(), number)

    with monkeypatch.context() as patch:
        patch.setattr(OptimizerInBackward, '__call__', interrupted)
        with pytest.raises(error):
            harness.run(config, tmp_path / 'run')
    # One signal lets the frame end; only a second one cuts it off.
    assert len(done) == (8 * pieces if len(signals) == 1 else half)
    states = sorted((tmp_path / 'run' / 'state').iterdir())
    assert [int(path.stem[-8:]) for path in states] == saved
    torch.manual_seed(99)
    harness.run(config, tmp_path / 'run', resume=True)
    assert harness.same(harness.outcome(tmp_path / 'run'), whole)


def test_resuming_with_workers_and_the_loops_own_argument(place, tmp_path):
    _, config, whole = place
    stopped(config, tmp_path / 'run', 7)
    harness.run(
        config,
        tmp_path / 'run',
        **{'test_cfg.resume': True, 'test_dataloader.num_workers': 1},
    )
    assert harness.same(harness.outcome(tmp_path / 'run'), whole)


def test_an_error_between_frames_saves_what_is_done(place, tmp_path):
    base, config, whole = place
    frame = base / 'data/leftImg8bit/val/city/city_0003_leftImg8bit.png'
    content = frame.read_bytes()
    try:
        # Of the same size: a state tells its data set by names and sizes.
        frame.write_bytes(bytes(len(content)))
        with pytest.raises(ValueError, match='city_0003'):
            hooks = [dict(type='EcoTTAHook'), dict(type='StreamStateHook')]
            harness.run(config, tmp_path / 'run', interval=50, custom_hooks=hooks)
    finally:
        frame.write_bytes(content)
    (state,) = (tmp_path / 'run' / 'state').iterdir()
    assert state.name == 'stream_state_rank0_00000003.pth'


def test_a_stream_that_was_all_done_ends_again_the_same(place, tmp_path):
    _, config, whole = place
    stopped(config, tmp_path / 'run', 16)
    harness.run(config, tmp_path / 'run', resume=True)
    assert harness.same(harness.outcome(tmp_path / 'run'), whole)


@pytest.mark.slow
@pytest.mark.parametrize('damage', ['cut', 'flipped', 'empty'])
def test_a_damaged_state_falls_back_to_the_one_before(place, tmp_path, damage, capfd):
    _, config, whole = place
    stopped(config, tmp_path / 'run', 8)
    newest = tmp_path / 'run' / 'state' / 'stream_state_rank0_00000008.pth'
    content = bytearray(newest.read_bytes())
    if damage == 'flipped':
        content[len(content) // 2] ^= 1
    newest.write_bytes({'cut': content[:-100], 'flipped': content, 'empty': b''}[damage])
    stopped(config, tmp_path / 'run', 4, resume=True, log_level='WARNING')
    # It does not take the place of a whole one.
    states = sorted(path.name for path in newest.parent.iterdir())
    assert f'{newest.name}.damaged' in states
    assert sum(name.endswith('.pth') for name in states) == 2
    harness.run(config, tmp_path / 'run', resume=True, log_level='WARNING')
    assert harness.same(harness.outcome(tmp_path / 'run'), whole)


@pytest.mark.slow
def test_no_whole_state_is_an_error_and_none_at_all_a_start(place, tmp_path):
    _, config, whole = place
    stopped(config, tmp_path / 'run', 8)
    for path in (tmp_path / 'run' / 'state').iterdir():
        path.write_bytes(path.read_bytes()[:50])
    with pytest.raises(ValueError, match='no saved state is complete.*without --resume'):
        harness.run(config, tmp_path / 'run', resume=True)
    harness.run(config, tmp_path / 'fresh', resume=True)
    assert harness.same(harness.outcome(tmp_path / 'fresh'), whole)


@pytest.mark.slow
def test_another_runs_state_is_refused_with_the_difference(place, tmp_path, monkeypatch):
    base, config, _ = place
    stopped(config, tmp_path / 'run', 8)

    def resumed(**changes):
        harness.run(config, tmp_path / 'run', resume=True, **changes)

    with pytest.raises(ValueError, match=r'config adaptation.optimizer.lr: was 0.0001, is 0.5'):
        resumed(**{'adaptation.optimizer.lr': 0.5})
    with pytest.raises(ValueError, match='config test_dataloader.dataset.rounds: was 2, is 3'):
        resumed(**{'test_dataloader.dataset.rounds': 3})
    with pytest.raises(ValueError, match='weights: was'):
        resumed(**{'randomness.seed': 5})
    monkeypatch.setattr('ecotta_seg.resume.run_identity.__version__', '99.0')
    with pytest.raises(ValueError, match=r'code ecotta_seg: was .*, is 99.0'):
        resumed()
    monkeypatch.undo()
    label = base / 'data/gtFine/val/city/city_0003_gtFine_labelTrainIds.png'
    content = label.read_bytes()
    try:
        label.write_bytes(content + b' ')
        words = f'the size of 1 of its files has changed, {re.escape(str(label))} first'
        with pytest.raises(ValueError, match=words):
            resumed()
    finally:
        label.write_bytes(content)
    image = base / 'data/leftImg8bit/val/city/city_0003_leftImg8bit.png'
    aside = label.with_suffix('.aside'), image.with_suffix('.aside')
    try:
        label.rename(aside[0]), image.rename(aside[1])
        with pytest.raises(ValueError, match='data set: was .*data set size: was 16, is 12'):
            resumed()
    finally:
        aside[0].rename(label), aside[1].rename(image)
    with pytest.raises(ValueError, match=r'config test_cfg.fp16: was not set, is False'):
        resumed(**{'test_cfg.fp16': False})


def test_a_full_disk_stops_the_run_and_the_state_before_goes_on(place, tmp_path, monkeypatch):
    _, config, whole = place
    from ecotta_seg.resume.state_file import _DigestingWriter

    def full(runner):
        def write(self, content):
            raise OSError(errno.ENOSPC, 'No space left on device')

        monkeypatch.setattr(_DigestingWriter, 'write', write)

    states, message = stopped(config, tmp_path / 'run', 7, full, error=OSError)
    assert states == ['stream_state_rank0_00000003.pth', 'stream_state_rank0_00000006.pth']
    assert 'No space left' in message and 'state of frame 6 is kept' in message
    monkeypatch.undo()
    harness.run(config, tmp_path / 'run', resume=True)
    assert harness.same(harness.outcome(tmp_path / 'run'), whole)


def test_a_limit_on_files_stops_the_run_as_a_full_disk_does(place, tmp_path):
    _, config, whole = place
    before = resource.getrlimit(resource.RLIMIT_FSIZE)

    def limit(runner):
        resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, before[1]))

    try:
        states, message = stopped(config, tmp_path / 'run', 7, limit, error=OSError)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert states == ['stream_state_rank0_00000003.pth', 'stream_state_rank0_00000006.pth']
    assert 'too large' in message and 'state of frame 6 is kept' in message
    harness.run(config, tmp_path / 'run', resume=True)
    assert harness.same(harness.outcome(tmp_path / 'run'), whole)


@pytest.mark.slow
def test_a_fresh_run_puts_an_earlier_ones_states_aside(place, tmp_path):
    _, config, whole = place
    earlier, _ = stopped(config, tmp_path / 'run', 8)
    harness.run(config, tmp_path / 'run')
    assert harness.same(harness.outcome(tmp_path / 'run'), whole)
    aside = tmp_path / 'run' / 'state_before_1'
    assert sorted(path.name for path in aside.iterdir()) == earlier
    assert len(list((tmp_path / 'run' / 'state').iterdir())) == 2
    # However often --resume is forgotten: the last run's states and those of the longest stay.
    for frame in (3, 4, 1, 2, 2):
        stopped(config, tmp_path / 'run', frame)
    kept = [
        max(path.name for path in (tmp_path / 'run' / f'state_before_{number}').iterdir())
        for number in range(1, 5)
    ]
    assert not (tmp_path / 'run' / 'state_before_5').exists()
    assert sorted(int(name[-12:-4]) for name in kept) == [2, 4, 8, 15]


@pytest.mark.slow
def test_other_data_goes_on_where_it_is_allowed(tmp_path):
    harness.write_data(tmp_path / 'data', frames=5)
    config = harness.write_config(tmp_path / 'tent.py', 'tent', tmp_path / 'data')
    stopped(config, tmp_path / 'run', 8)
    for path in (tmp_path / 'data').rglob('city_0004_*'):
        path.unlink()
    allow = {'custom_hooks.4.allow': ('data set',)}
    runner = harness.run(config, tmp_path / 'run', resume=True, **allow)
    assert runner.message_hub.get_info('ecotta_seg/resumed_at') == 8


def test_states_of_fewer_processes_are_not_passed_over(place, tmp_path, monkeypatch):
    _, config, _ = place
    stopped(config, tmp_path / 'run', 8)
    folder = StateFolder(tmp_path / 'run' / 'state', 2, logging.getLogger())
    # A second process that finds nothing of its own.
    gathered = 'ecotta_seg.resume.state_folder.all_gather_object'
    monkeypatch.setattr(gathered, lambda found: [found, []])
    with pytest.raises(ValueError, match='continue with as many processes'):
        folder.newest({}, (), in_step=True)
    monkeypatch.setattr(gathered, lambda found: [[], []])
    assert StateFolder(tmp_path / 'none', 2, logging.getLogger()).newest({}, (), True) is None


@pytest.mark.slow
def test_mmsegs_own_metric_goes_on_too(place, tmp_path):
    _, config, _ = place
    metrics = dict(
        test_evaluator=[dict(type='PerConditionIoU'), dict(type='IoUMetric', prefix='mmseg')]
    )
    whole = harness.run(config, tmp_path / 'whole', **metrics)
    stopped(config, tmp_path / 'run', 8, **metrics)
    rest = harness.run(config, tmp_path / 'run', resume=True, **metrics)
    ends = [
        {k: v.current() for k, v in r.message_hub.log_scalars.items() if 'mIoU' in k}
        for r in (whole, rest)
    ]
    assert ends[0] == ends[1]


@pytest.mark.slow
@pytest.mark.parametrize(
    'method',
    [
        *('cotta', 'eata', 'sar', 'rdumb', 'law', 'ladder', 'rotta', 'svdp', 'vida', 'hybrid_tta'),
        'mixture_of_prototypes',
    ],
)
def test_methods_with_more_than_parameters_go_on(place, tmp_path, method):
    base, _, _ = place
    config = harness.write_config(tmp_path / f'{method}.py', method, base / 'data')
    changes = {'test_dataloader.dataset.frames_per_condition': 2}
    if method == 'cotta':
        changes['adaptation.views'] = 2
    if method == 'rdumb':
        changes['adaptation.reset_every'] = 5
    if method == 'svdp':
        changes['adaptation.views'] = 1
    if method in ('rotta', 'svdp', 'vida', 'hybrid_tta', 'mixture_of_prototypes'):
        # By the source's statistics the small network finds one class everywhere.
        changes.update({'custom_hooks.3.max_class_share': 1.0, 'custom_hooks.3.max_entropy': 1.0})
    harness.run(config, tmp_path / 'whole', **changes)
    stopped(config, tmp_path / 'run', 4, **changes)
    torch.manual_seed(99)
    harness.run(config, tmp_path / 'run', resume=True, **changes)
    whole = harness.outcome(tmp_path / 'whole')
    assert harness.same(harness.outcome(tmp_path / 'run'), whole)
    updates = sum(',True,' in line for line in whole[1].splitlines())
    # Prototypes of one class give a gate nothing to learn; the rest needs those of the state.
    assert updates > 4 or method == 'mixture_of_prototypes', 'it has learned in between'


@pytest.mark.slow
def test_killed_runs_end_identically(tmp_path):
    done = subprocess.run(
        [sys.executable, str(SCRIPT), '--kills', '3', '--methods', 'ecotta', 'tent'],
        env={**os.environ, 'OMP_NUM_THREADS': '1'},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert '3 kills, 0 failures' in done.stdout


def test_saving_is_put_off_where_it_would_cost_too_much():
    hook = StreamStateHook(interval=10, max_share=0.1)
    hook._position, hook._saved_at, hook._saving, hook._step = 10, 0, 0.0, 10
    hook._started, hook._last_cost = time.perf_counter() - 10, 0.5
    assert hook._is_due()
    hook._saving = 0.6
    assert not hook._is_due()
    hook.max_share = None
    assert hook._is_due()
    hook._position = 9
    assert not hook._is_due()
    with pytest.raises(ValueError, match='at least 1'):
        StreamStateHook(interval=0)


def test_random_generators_go_on():
    import random

    import numpy as np

    state = random_state()
    first = random.random(), np.random.rand(), torch.rand(1).item()
    set_random_state(state)
    assert (random.random(), np.random.rand(), torch.rand(1).item()) == first


def test_differences_are_named_shortly():
    first, second = {f'k{i}': '1' for i in range(9)}, {f'k{i}': '2' for i in range(9)}
    assert differences(first, first) == []
    assert differences(first, second)[-1] == 'and 5 more'
    assert differences(first, second, allowed=['k']) == []


def test_two_hooks_of_one_class_keep_a_state_each():
    from types import SimpleNamespace

    from mmengine.hooks import Hook

    from ecotta_seg.hooks.stream_state_hook import _hooks_with_state

    class Counter(Hook):
        def state_dict(self):
            return {'count': id(self)}

    other = type('Counter', (Counter,), {'__module__': 'elsewhere'})
    hooks = [Counter(), Hook(), Counter(), other()]
    found = _hooks_with_state(SimpleNamespace(hooks=hooks))
    assert list(found.values()) == [hooks[0], hooks[2], hooks[3]]
    assert sorted(key.rpartition(' ')[2] for key in found) == ['1', '1', '2']
