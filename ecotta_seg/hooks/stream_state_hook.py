"""Saves a stream's whole state at intervals, and resumes from a state after any stop."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Optional

from mmengine.dist import barrier, get_world_size, is_main_process
from mmengine.evaluator import BaseMetric
from mmengine.hooks import Hook
from mmengine.registry import HOOKS

from ..files.json_lines import JsonLines, decode_json_lines
from ..methods.frame_life import Turn
from ..names.printable import printable
from ..resume.random_state import random_state, set_random_state
from ..resume.rest_sampler import RestSampler
from ..resume.run_identity import changed_files, data_files, file_sizes, run_identity
from ..resume.state_file import plain
from ..resume.state_folder import StateFolder
from ..resume.stop_signals import StopSignals, leave_signals_to_parent
from .run_record import RunRecord

# Attributes of ``RunRecord`` in a state: lists that grow with each frame or event, and small data.
_GROWING, _SMALL = ('history', 'events'), ('extra',)


class _AfterFrame(Hook):
    """Calls ``StreamStateHook`` when all other hooks have finished a frame."""

    priority = Turn.SAVE

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
    """Saves the stream's state as ``<work_dir>/state/stream_state_rank<r>_<frames>.pth``.

    A state holds the method's tensors and optimizer, the guard, the estimate, the compute budget,
    all random generators, the position, the sums of the metrics, and the state of each hook with
    ``state_dict()``. A resumed run gives the same results as an uninterrupted run, bit for bit on
    the CPU (except times and the process's peak memory).

    On SIGTERM or SIGINT the run finishes the frame, saves a state and stops; a second signal stops
    at once. With ``test_cfg=dict(type='ResumableTestLoop')`` an error between two frames also saves
    a state, and ``test_cfg.resume=True`` has the same effect as ``resume``.

    Args:
        interval: Number of frames between two states. If processes share their adapters, the
            interval is at least the number of frames between two exchanges. All processes then save
            at the same frames, and a signal saves no additional state.
        max_share: Maximum fraction of the stream's time for saving, 0 to 1. A state that would
            exceed this limit waits for a later frame. None: no limit. Several processes ignore the
            limit, because they must save at the same frames.
        keep: Number of the newest states to keep. If the newest is damaged, the run resumes from
            the one before.
        resume: Whether to resume from the newest complete state. If there is no state, the stream
            starts at frame 0.
        allow: Beginnings of the names of identity entries that may differ from the run that wrote
            the state, for example ``('code',)``; see ``run_identity``.

    Raises:
        ValueError: ``interval`` or ``keep`` is below 1. On resuming: the state belongs to another
            run (the message names the differences), or no state is complete.
    """

    priority = Turn.STATE

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
        self.signals = StopSignals(waiting=lambda: self.in_stream)

    def before_run(self, runner: Any) -> None:
        """Adds a hook that calls this one after all other hooks."""
        if not any(isinstance(hook, _AfterFrame) for hook in runner.hooks):
            runner.register_hook(_AfterFrame(self))

    def before_test(self, runner: Any) -> None:
        """Loads the newest state if the run resumes; else moves the states of an old run aside."""
        self.folder = StateFolder(Path(runner.work_dir) / 'state', self.keep, runner.logger)
        self._position = self._saved_at = 0
        self._mid_step = False
        self._saving = self._last_cost = 0.0
        self._lines = {key: JsonLines() for key in _GROWING}
        shared = [h.every for h in runner.hooks if getattr(h, 'shares_adapters', False)]
        # Processes that share adapters are at most one exchange apart. If all processes save at the
        # same frames, at least one exchange apart, their two newest states have a frame in common.
        self._in_step = bool(shared) and get_world_size() > 1
        self._step = max([self.interval, *shared])
        self._random = random_state()
        self._files = data_files(runner.test_dataloader.dataset)
        self._sizes = file_sizes(self._files)
        self._identity = run_identity(runner, self._files)
        self._stopped_by: Optional[str] = None
        self._unsaved = self._not_resumable(runner)
        if self._unsaved:
            runner.logger.warning(f'no states are saved: {self._unsaved}')
        self.folder.clear_temporaries()
        if self.resume or getattr(runner.test_loop, 'resume', False):
            state = self.folder.newest(self._identity, self.allow, self._in_step)
            if state is not None:
                self._check_files(runner, state)
                self._go_on(runner, state)
        elif is_main_process():
            self.folder.put_aside()
        barrier()
        RunRecord(runner).resumed_at = self._position
        leave_signals_to_parent(runner.test_dataloader)
        self.signals.catch()

    def before_test_epoch(self, runner: Any) -> None:
        """From now on, a signal to stop waits until the current frame is done."""
        self.in_stream = True
        self._started = time.perf_counter()

    def before_test_iter(self, runner: Any, batch_idx: int, data_batch: Any = None) -> None:
        """Marks the frame as begun: no state can be saved until its end."""
        self._mid_step = True

    def frame_done(self, runner: Any, frames: int) -> None:
        """Counts the frames, saves a state if due, and stops if a signal came."""
        self._position += frames
        self._mid_step = False
        self._random = random_state()
        if self._is_due() or (self.signals.noted is not None and not self._in_step):
            self.save(runner)
        # Checked again: a signal may have come while the state was written.
        if self.signals.noted is not None:
            self._leave(runner)

    def _is_due(self) -> bool:
        if self._position // self._step == self._saved_at // self._step:
            return False
        if self.max_share is None or get_world_size() > 1:
            return True
        elapsed = time.perf_counter() - self._started
        return self._saving + self._last_cost <= self.max_share * elapsed

    def save(self, runner: Any) -> None:
        """Writes the state after the last complete frame; keeps the newest ``keep`` states.

        Raises:
            OSError: The state could not be written; earlier states are unchanged.
        """
        saved = self._position == self._saved_at and self._stopped_by is None
        if self._unsaved or saved or not self._position:
            return
        start = time.perf_counter()
        try:
            self.folder.write(self._gather(runner))
        except OSError as error:
            last = f'the state of frame {self._saved_at}' if self._saved_at else 'no state'
            raise OSError(
                f'the state of frame {self._position} could not be written to {self.folder.path} '
                f'({error.strerror or error}): the run stops here and {last} is kept; free space '
                'and continue with --resume'
            ) from None
        self.folder.remove_oldest()
        self._saved_at = self._position
        self._last_cost = time.perf_counter() - start
        self._saving += self._last_cost

    def save_between_frames(self, runner: Any, bad_file: Optional[str] = None) -> None:
        """Saves a state before an error stops the stream, unless a frame is half done.

        Args:
            runner: The Runner.
            bad_file: The file that caused the error. The file may differ when the run resumes.
        """
        if self.in_stream and not self._mid_step and not self._in_step:
            self._stopped_by = bad_file
            self.save(runner)
            # Saved: the test loop may call this again for the same error.
            self.in_stream = False

    def restore_signals(self) -> None:
        """Restores the program's own signal handlers."""
        self.signals.restore()

    def _gather(self, runner: Any) -> dict:
        model, record = runner.model, RunRecord(runner)
        guard, estimate, budget = (
            getattr(model, name, None) for name in ('guard', 'estimate', 'compute_budget')
        )
        return {
            'identity': dict(self._identity),
            'position': self._position,
            'method': model.method_state(),
            'guard': guard.state_dict() if guard is not None else None,
            'estimate': estimate.state_dict() if estimate is not None else None,
            'compute': budget.state_dict() if budget is not None else None,
            'random': self._random,
            'files': self._sizes,
            'stopped_by': self._stopped_by,
            'metrics': [_metric_state(metric) for metric in runner.test_evaluator.metrics],
            'hooks': {key: h.state_dict() for key, h in _hooks_with_state(runner).items()},
            'hub': {key: getattr(record, key) for key in _SMALL},
            'growing': {
                key: self._lines[key].encode(getattr(record, key) or []) for key in _GROWING
            },
        }

    def _check_files(self, runner: Any, state: dict) -> None:
        """Refuses data files that changed since the state was saved, except repaired bad files."""
        if 'data set'.startswith(self.allow):
            return
        changed = changed_files(self._files, state['files'], self._sizes)
        told = {printable(state['stopped_by'])}
        for event in decode_json_lines(state['growing']['events']):
            told.add(event.get('path'))
        mended = [path for path in changed if printable(path) in told]
        other = [path for path in changed if printable(path) not in told]
        if mended:
            runner.logger.warning(
                f'{len(mended)} files that were bad have changed, {printable(mended[0])} first: '
                'from here on the run uses them as they are'
            )
        if other:
            raise ValueError(
                f'the state in {self.folder.path} belongs to other data: the size of '
                f'{len(other)} of its files has changed, {printable(other[0])} first. Restore '
                "the files that the run was started with, allow the change by StreamStateHook's "
                "allow=('data set',), or start again without --resume"
            )

    def _go_on(self, runner: Any, state: dict) -> None:
        runner.model.load_method_state(state['method'])
        if state['guard'] is not None and getattr(runner.model, 'guard', None) is not None:
            runner.model.guard.load_state_dict(state['guard'])
        estimate = getattr(runner.model, 'estimate', None)
        if estimate is not None and state.get('estimate') is not None:
            estimate.load_state_dict(state['estimate'])
        budget = getattr(runner.model, 'compute_budget', None)
        if budget is not None and state.get('compute') is not None:
            budget.load_state_dict(state['compute'])
        for metric, saved in zip(runner.test_evaluator.metrics, state['metrics']):
            _load_metric(metric, saved)
        for key, hook in _hooks_with_state(runner).items():
            if key in state['hooks']:
                hook.load_state_dict(state['hooks'][key])
        growing = {key: decode_json_lines(text) for key, text in state['growing'].items()}
        for key, value in {**state['hub'], **growing}.items():
            if value:
                setattr(RunRecord(runner), key, value)
        self._position = self._saved_at = int(state['position'])
        batches = runner.test_dataloader.batch_sampler
        whole = getattr(batches.sampler, 'sampler', batches.sampler)
        batches.sampler = RestSampler(
            whole, self._position, lambda: set_random_state(state['random'])
        )
        runner.logger.info(f'continuing after frame {self._position} of the stream')

    @staticmethod
    def _not_resumable(runner: Any) -> Optional[str]:
        if not hasattr(runner.model, 'method_state'):
            return f'{type(runner.model).__name__} has no state to save'
        if getattr(runner.test_dataloader, 'batch_sampler', None) is None:
            return 'the data loader has no batch sampler'
        for metric in runner.test_evaluator.metrics:
            try:
                plain(_metric_state(metric))
            except TypeError as error:
                return f'{type(metric).__name__}: {error}'
        return None

    def _leave(self, runner: Any) -> None:
        runner.logger.warning(
            f'stopped by {self.signals.name} after frame {self._position}: continue with --resume'
        )
        self.in_stream = False
        self.signals.stop()


def _hooks_with_state(runner: Any) -> dict[str, Hook]:
    """The hooks that have a ``state_dict``, by the name of their class and a number."""
    found: dict[str, Hook] = {}
    for hook in runner.hooks:
        if callable(getattr(hook, 'state_dict', None)):
            kind, number = f'{type(hook).__module__}.{type(hook).__qualname__}', 1
            while f'{kind} {number}' in found:
                number += 1
            found[f'{kind} {number}'] = hook
    return found


def _metric_state(metric: BaseMetric) -> Any:
    if hasattr(metric, 'state_dict'):
        return metric.state_dict()
    return {'results': list(metric.results)}


def _load_metric(metric: BaseMetric, state: dict) -> None:
    if hasattr(metric, 'load_state_dict'):
        metric.load_state_dict(state)
    else:
        metric.results = list(state['results'])
