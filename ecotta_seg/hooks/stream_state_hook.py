"""Saves a stream's whole state now and then, and goes on from it after a stop of any kind."""

import os
import re
import shutil
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Optional

from mmengine.dist import (
    all_gather_object,
    barrier,
    get_rank,
    get_world_size,
    is_main_process,
)
from mmengine.evaluator import BaseMetric
from mmengine.hooks import Hook
from mmengine.registry import HOOKS

from ..json_lines import JsonLines, decode_json_lines
from ..random_state import random_state, set_random_state
from ..state_file import StateFileError, plain, read_state, write_state
from .run_identity import differences, run_identity

# Lists with an entry a frame, or a frame that something is wrong with; and what stays small.
_GROWING, _SMALL = ('history', 'events'), ('extra',)


class RestSampler:
    """A sampler without its first indices.

    Args:
        sampler: The whole stream's.
        skip: How many indices are done.
        before_first: Called when the first index is asked for.
    """

    def __init__(self, sampler: Any, skip: int, before_first: Any = None) -> None:
        self.sampler = sampler
        self.skip = skip
        self.before_first = before_first

    def __iter__(self) -> Iterator[int]:
        indices = iter(self.sampler)
        for _ in range(self.skip):
            next(indices, None)
        # A loader draws random numbers when it starts; the stopped run did so before its state.
        if self.before_first is not None:
            self.before_first()
        yield from indices

    def __len__(self) -> int:
        return max(0, len(self.sampler) - self.skip)


class _AfterFrame(Hook):
    """Runs after every other hook: only then is a frame done."""

    priority = 'LOWEST'

    def __init__(self, owner: 'StreamStateHook') -> None:
        self.owner = owner

    def after_test_iter(self, runner, batch_idx, data_batch=None, outputs=()) -> None:
        self.owner.frame_done(runner, len(outputs))

    def after_test_epoch(self, runner, metrics=None) -> None:
        self.owner.in_stream = False

    def after_test(self, runner) -> None:
        self.owner.restore_signals()


@HOOKS.register_module()
class StreamStateHook(Hook):
    """Writes ``<work_dir>/state/stream_state_rank<r>_<frames>.pth``; the newest are kept.

    A state holds the method's tensors and optimizer, the guard, all random generators, the
    position, the sums of the metrics, and what hooks with ``state_dict()`` keep. A run that goes
    on from it ends with the results, bit for bit on the CPU, of one that never stopped (times and
    the process's peak memory aside).

    SIGTERM and SIGINT end the frame, save and stop; a second signal stops at once. With
    ``test_cfg=dict(type='ResumableTestLoop')`` an error between two frames saves as well, and
    ``test_cfg.resume=True`` is as good as ``resume`` here.

    Args:
        interval: Frames between two states; at least those between two exchanges, where
            processes share their adapters (their states are then of the same frames, and a signal
            saves none between).
        max_share: A state that would bring the time spent on saving above this share of the
            stream's is put off to a later frame. None: never. Not used by several processes,
            whose states must be of the same frames.
        keep: How many are kept; the one before is fallen back to where the newest is damaged.
        resume: Go on from the newest whole state. Where there is none the stream starts anew.
        allow: Names of what may differ from the run that wrote the state, by their beginning,
            for example ``('code',)``; see ``run_identity``.

    Raises:
        ValueError: ``interval`` or ``keep`` is below 1; on resuming, the state is of another run
            (the message names what differs), or none of them is whole.
    """

    # After EcoTTAHook (30) has built the method, before ForgettingHook (40) scores it.
    priority = 35

    def __init__(
        self,
        interval: int = 20,
        max_share: Optional[float] = 0.02,
        keep: int = 2,
        resume: bool = False,
        allow: Sequence[str] = (),
    ) -> None:
        if interval < 1 or keep < 1:
            raise ValueError(
                f'StreamStateHook: interval and keep must be at least 1, got {interval} and '
                f'{keep}; leave the hook out to save nothing'
            )
        self.interval, self.max_share, self.keep = interval, max_share, keep
        self.resume, self.allow = resume, tuple(allow)
        self.in_stream = False
        self._handlers: dict = {}

    def before_run(self, runner: Any) -> None:
        """Has itself called after all other hooks too."""
        if not any(isinstance(hook, _AfterFrame) for hook in runner.hooks):
            runner.register_hook(_AfterFrame(self))

    def before_test(self, runner: Any) -> None:
        """Identifies the run, and goes on from a state or puts old ones aside."""
        self.folder = Path(runner.work_dir) / 'state'
        self._position = self._saved_at = 0
        self._mid_step, self._stop = False, None
        self._saving = self._last_cost = 0.0
        self._lines = {key: JsonLines() for key in _GROWING}
        shared = [h.every for h in runner.hooks if getattr(h, 'shares_adapters', False)]
        # Processes that exchange are at most an exchange apart. With states no closer than that,
        # and of the same frames on each, two are enough to have one in common.
        self._in_step = bool(shared) and get_world_size() > 1
        self._step = max([self.interval, *shared])
        self._random = random_state()
        self._identity = run_identity(runner)
        self._unsaved = self._not_resumable(runner)
        if self._unsaved:
            runner.logger.warning(f'no states are saved: {self._unsaved}')
        self._clear_temporaries()
        if self.resume or getattr(runner.test_loop, 'resume', False):
            state = self._newest(runner)
            if state is not None:
                self._go_on(runner, state)
        elif is_main_process():
            self._put_aside(runner)
        barrier()
        runner.message_hub.update_info('ecotta_seg/resumed_at', self._position)
        self._catch_signals()

    def before_test_epoch(self, runner: Any) -> None:
        """From here on a signal waits for the end of its frame."""
        self.in_stream = True
        self._started = time.perf_counter()

    def before_test_iter(self, runner: Any, batch_idx: int, data_batch: Any = None) -> None:
        """From here to the frame's end the state is in between."""
        self._mid_step = True

    def frame_done(self, runner: Any, frames: int) -> None:
        """Counts the frames, saves where it is time to, stops where a signal came."""
        self._position += frames
        self._mid_step = False
        self._random = random_state()
        if self._is_due() or (self._stop is not None and not self._in_step):
            self.save(runner)
        if self._stop is not None:
            self._leave(runner)

    def _is_due(self) -> bool:
        if self._position // self._step == self._saved_at // self._step:
            return False
        if self.max_share is None or get_world_size() > 1:
            return True
        elapsed = time.perf_counter() - self._started
        return self._saving + self._last_cost <= self.max_share * elapsed

    def save(self, runner: Any) -> None:
        """Writes the state of the last whole frame and removes the oldest.

        Raises:
            OSError: It could not be written; the states before are untouched.
        """
        if self._unsaved or self._position == self._saved_at:
            return
        start = time.perf_counter()
        path = self.folder / f'stream_state_rank{get_rank()}_{self._position:08d}.pth'
        try:
            write_state(self._gather(runner), path)
        except OSError as error:
            last = f'the state of frame {self._saved_at}' if self._saved_at else 'no state'
            raise OSError(
                f'the state of frame {self._position} could not be written to {self.folder} '
                f'({error.strerror or error}): the run stops here and {last} is kept; free space '
                'and go on with --resume'
            ) from None
        for old in self._files()[self.keep :]:
            old.unlink(missing_ok=True)
        self._saved_at = self._position
        self._last_cost = time.perf_counter() - start
        self._saving += self._last_cost

    def save_between_frames(self, runner: Any) -> None:
        """Saves unless a frame is half done; for whoever stops a stream by an error."""
        if self.in_stream and not self._mid_step and not self._in_step:
            self.save(runner)

    def _gather(self, runner: Any) -> dict:
        model, hub = runner.model, runner.message_hub
        guard = getattr(model, 'guard', None)
        return {
            'identity': dict(self._identity),
            'position': self._position,
            'method': model.method_state(),
            'guard': guard.state_dict() if guard is not None else None,
            'random': self._random,
            'metrics': [_metric_state(metric) for metric in runner.test_evaluator.metrics],
            'hooks': {type(h).__name__: h.state_dict() for h in _hooks_with_state(runner)},
            'hub': {key: hub.get_info(f'ecotta_seg/{key}', None) for key in _SMALL},
            'growing': {
                key: self._lines[key].encode(hub.get_info(f'ecotta_seg/{key}', None) or [])
                for key in _GROWING
            },
        }

    def _go_on(self, runner: Any, state: dict) -> None:
        runner.model.load_method_state(state['method'])
        if state['guard'] is not None and getattr(runner.model, 'guard', None) is not None:
            runner.model.guard.load_state_dict(state['guard'])
        for metric, saved in zip(runner.test_evaluator.metrics, state['metrics']):
            _load_metric(metric, saved)
        for hook in _hooks_with_state(runner):
            if type(hook).__name__ in state['hooks']:
                hook.load_state_dict(state['hooks'][type(hook).__name__])
        growing = {key: decode_json_lines(text) for key, text in state['growing'].items()}
        for key, value in {**state['hub'], **growing}.items():
            if value:
                runner.message_hub.update_info(f'ecotta_seg/{key}', value)
        self._position = self._saved_at = int(state['position'])
        batches = runner.test_dataloader.batch_sampler
        whole = getattr(batches.sampler, 'sampler', batches.sampler)
        batches.sampler = RestSampler(
            whole, self._position, lambda: set_random_state(state['random'])
        )
        runner.logger.info(f'going on after frame {self._position} of the stream')

    def _newest(self, runner: Any) -> Optional[dict]:
        """The newest whole state of this run; None where there are none at all."""
        files = self._files()
        whole, damaged = {}, []
        for path in files:
            try:
                whole[path] = self._checked(path)
            except StateFileError as error:
                damaged.append(str(error))
                runner.logger.warning(f'a saved state is left out: {error}')
        if self._in_step:
            common = set.intersection(
                *(set(found) for found in all_gather_object([_frames_of(p) for p in whole]))
            )
            whole = {path: state for path, state in whole.items() if _frames_of(path) in common}
        for path, state in whole.items():
            if damaged:
                runner.logger.warning(f'falling back to {path}')
            different = differences(state['identity'], self._identity, self.allow)
            if different:
                raise ValueError(
                    f'{path} is the state of another run: {"; ".join(different)}. Go on with what '
                    'the run was started with, or start anew without --resume'
                )
            return state
        if damaged:
            raise ValueError(f'no saved state is whole: {damaged[0]}; start anew without --resume')
        runner.logger.info(f'there is no saved state in {self.folder}: starting with frame 0')
        return None

    def _checked(self, path: Path) -> dict:
        state = read_state(path)
        expected = ('identity', 'position', 'method', 'guard', 'random', 'metrics', 'hooks')
        missing = [key for key in (*expected, 'hub', 'growing') if key not in state]
        if missing:
            raise StateFileError(f'{path} is not the state of a stream (no {missing[0]})')
        return state

    def _files(self) -> list[Path]:
        """States of this process, newest first."""
        found = self.folder.glob(f'stream_state_rank{get_rank()}_*.pth')
        return sorted((path for path in found if _frames_of(path) is not None), reverse=True)

    def _clear_temporaries(self) -> None:
        """Removes what a kill in the middle of writing left."""
        if self.folder.is_dir():
            for path in self.folder.glob(f'.stream_state_rank{get_rank()}_*'):
                path.unlink(missing_ok=True)

    def _put_aside(self, runner: Any) -> None:
        """Keeps the states of an earlier run in this work dir out of the way of this one."""
        if self.folder.is_dir() and any(self.folder.iterdir()):
            aside = self.folder.with_name('state_before')
            shutil.rmtree(aside, ignore_errors=True)
            self.folder.rename(aside)
            runner.logger.warning(
                f'the states of an earlier run are now in {aside}: to go on from them, rename '
                f'it to {self.folder.name} and use --resume'
            )

    @staticmethod
    def _not_resumable(runner: Any) -> Optional[str]:
        if not hasattr(runner.model, 'method_state'):
            return f'{type(runner.model).__name__} tells no state'
        if getattr(runner.test_dataloader, 'batch_sampler', None) is None:
            return 'the data loader has no batch sampler'
        for metric in runner.test_evaluator.metrics:
            try:
                plain(_metric_state(metric))
            except TypeError as error:
                return f'{type(metric).__name__}: {error}'
        return None

    def _catch_signals(self) -> None:
        # Only the main thread may; a Runner in another one leaves signals to its program.
        if threading.current_thread() is not threading.main_thread() or self._handlers:
            return
        self._pid = os.getpid()
        for number in (signal.SIGTERM, signal.SIGINT):
            self._handlers[number] = signal.signal(number, self._on_signal)

    def restore_signals(self) -> None:
        """Puts the program's own signal handlers back."""
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        self._handlers = {}

    def _on_signal(self, number: int, frame: Any) -> None:
        if os.getpid() != self._pid:
            return  # A loader's worker: its parent decides.
        if self.in_stream and self._stop is None:
            self._stop = number
            return
        self.restore_signals()
        raise KeyboardInterrupt if number == signal.SIGINT else SystemExit(128 + number)

    def _leave(self, runner: Any) -> None:
        runner.logger.warning(
            f'stopped by {signal.Signals(self._stop).name} after frame {self._position}: '
            'go on with --resume'
        )
        self.in_stream = False
        self.restore_signals()
        raise KeyboardInterrupt if self._stop == signal.SIGINT else SystemExit(128 + self._stop)


def _hooks_with_state(runner: Any) -> list[Hook]:
    return [hook for hook in runner.hooks if callable(getattr(hook, 'state_dict', None))]


def _metric_state(metric: BaseMetric) -> Any:
    if hasattr(metric, 'state_dict'):
        return metric.state_dict()
    return {'results': list(metric.results)}


def _load_metric(metric: BaseMetric, state: dict) -> None:
    if hasattr(metric, 'load_state_dict'):
        metric.load_state_dict(state)
    else:
        metric.results = list(state['results'])


def _frames_of(path: Path) -> Optional[int]:
    match = re.fullmatch(r'stream_state_rank\d+_(\d+)\.pth', path.name)
    return int(match.group(1)) if match else None
