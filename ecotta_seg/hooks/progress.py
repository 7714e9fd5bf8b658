"""Progress bars with rate and remaining time, for a terminal and for a log file."""

import sys
from collections.abc import Iterator
from typing import Optional

from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from ..methods.frame_life import Turn
from ..names.type_names import is_a
from .run_record import RunRecord
from .run_time import LONG, SHORT, RunTime, StreamSize, advice, describe


class _RateColumn(TextColumn):
    """Frames per second."""

    def __init__(self) -> None:
        super().__init__('')

    def render(self, task):
        """Returns the rate of the last frames as text; '' before there is a rate."""
        return f'{task.speed:.1f} frames/s' if task.speed else ''


def _bar() -> Progress:
    return Progress(
        TextColumn('{task.description}'),
        BarColumn(),
        MofNCompleteColumn(),
        _RateColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn('{task.fields[note]}'),
        # Without a terminal only the finished bar is written, not one line per frame.
        console=Console(file=sys.stderr),
        transient=False,
    )


def progress(loader, title: str) -> Iterator:
    """Iterates over ``loader``, which must have a length, and shows a progress bar."""
    with _bar() as bar:
        task = bar.add_task(title, total=len(loader), note='')
        for item in loader:
            yield item
            bar.advance(task)


@HOOKS.register_module()
class StreamProgressHook(Hook):
    """Shows a progress bar for the stream: round, condition, running mIoU, rate, remaining time.

    If the run will take more than a minute, the hook logs the expected duration after the first few
    frames, see ``RunTime``. If the run will take more than half an hour, the hook also names
    options that shorten it.
    """

    priority = Turn.SHOW

    def __init__(self) -> None:
        self._bar: Optional[Progress] = None
        self._time: Optional[RunTime] = None
        self._metered, self._frames = False, 0

    def before_test_epoch(self, runner) -> None:
        """Opens the bar, after other hooks have shown their own bars before the test."""
        self._bar = _bar()
        batch_size = getattr(runner.test_dataloader, 'batch_size', None) or 1
        # A resumed loader has only the rest of the stream.
        done = RunRecord(runner).resumed_at // batch_size
        left = len(runner.test_dataloader)
        self._task = self._bar.add_task('stream', total=done + left, completed=done, note='')
        rounds = getattr(runner.test_dataloader.dataset, 'rounds', 1)
        first = max(0, (done + left) // rounds - done)
        self._time = RunTime(first * batch_size, (left - first) * batch_size)
        self._frames = (done + left) * batch_size
        self._source_hook = _hook(runner, 'SourceReferenceHook')
        self._bar.start()

    def before_test_iter(self, runner, batch_idx, data_batch=None) -> None:
        """Records whether the memory meter, which takes time, measures the next frame."""
        self._metered = getattr(runner.model, 'observer', None) is not None

    def after_test_iter(self, runner, batch_idx, data_batch=None, outputs=None) -> None:
        """Advances the bar by one batch."""
        sample = outputs[-1]
        title = f'round {sample.get("round", 1)} {sample.get("condition", "")}'
        metric = next(
            (m for m in runner.test_evaluator.metrics if hasattr(m, 'running_mIoU')), None
        )
        running = metric.running_mIoU() if metric else None
        note = '' if running is None else f'mIoU {running:.1f}'
        self._bar.update(self._task, advance=1, description=title, note=note)
        first = sample.get('round', 1) == 1
        beside = getattr(self._source_hook, 'last_seconds', 0.0)
        if self._time.end_of_frame(first, not self._metered, beside, len(outputs)):
            self._log_run_time(runner)

    def _log_run_time(self, runner) -> None:
        """Logs how long the run will take and how to shorten it."""
        clear_hook = _hook(runner, 'ForgettingHook')
        passes = getattr(clear_hook, 'seconds', {})
        # The pass after the stream takes as long as the pass before.
        clear = sum(passes.values()) + passes.get('clear day, before', 0.0)
        total = self._time.stream_seconds + clear
        if total < LONG:
            return
        peak = getattr(_hook(runner, 'MemoryHook'), 'peak_bytes', None)
        text = describe(total, self._frames, self._time.mean_seconds, peak, clear)
        dataset = runner.test_dataloader.dataset
        if total > SHORT and hasattr(dataset, 'frames_per_round'):
            kinds = len(dataset.conditions)
            size = StreamSize(dataset.frames_per_round // kinds, kinds, dataset.rounds)
            shorter = advice(size, self._time.frame_seconds, clear)
            text += f'; {shorter}' if shorter else ''
        runner.logger.info(text)

    def after_test_epoch(self, runner, metrics=None) -> None:
        """Closes the bar."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None


def _hook(runner, name: str) -> Optional[Hook]:
    return next((hook for hook in runner.hooks if is_a(hook, name)), None)
