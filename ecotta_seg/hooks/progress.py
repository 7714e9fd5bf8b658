"""Progress bars with rate and remaining time, on a terminal and in a log file alike."""

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


class _RateColumn(TextColumn):
    """Frames a second."""

    def __init__(self) -> None:
        super().__init__('')

    def render(self, task):
        """The rate of the last frames, or nothing before there is one."""
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
        # Without a terminal only the finished bar is written, not a line a frame.
        console=Console(file=sys.stderr),
        transient=False,
    )


def progress(loader, title: str) -> Iterator:
    """Goes through a sized iterable under a bar."""
    with _bar() as bar:
        task = bar.add_task(title, total=len(loader), note='')
        for item in loader:
            yield item
            bar.advance(task)


@HOOKS.register_module()
class StreamProgressHook(Hook):
    """A bar over the stream: round, condition, running mIoU, rate and remaining time."""

    priority = 'LOW'

    def __init__(self) -> None:
        self._bar: Optional[Progress] = None

    def before_test_epoch(self, runner) -> None:
        """Opens the bar, after the hooks that run bars of their own before the test."""
        self._bar = _bar()
        batch_size = getattr(runner.test_dataloader, 'batch_size', None) or 1
        # A resumed loader has the rest of the stream only.
        done = (runner.message_hub.get_info('ecotta_seg/resumed_at', 0) or 0) // batch_size
        total = done + len(runner.test_dataloader)
        self._task = self._bar.add_task('stream', total=total, completed=done, note='')
        self._bar.start()

    def after_test_iter(self, runner, batch_idx, data_batch=None, outputs=None) -> None:
        """Moves the bar on by one batch."""
        sample = outputs[-1]
        title = f'round {sample.get("round", 1)} {sample.get("condition", "")}'
        metric = next(
            (m for m in runner.test_evaluator.metrics if hasattr(m, 'running_mIoU')), None
        )
        running = metric.running_mIoU() if metric else None
        note = '' if running is None else f'mIoU {running:.1f}'
        self._bar.update(self._task, advance=1, description=title, note=note)

    def after_test_epoch(self, runner, metrics=None) -> None:
        """Closes the bar."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None
