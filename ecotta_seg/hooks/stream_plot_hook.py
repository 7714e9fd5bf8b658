"""Records the history of a stream, frame by frame, and plots this history."""

import csv
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import Any, Optional

from mmengine.dist import get_rank
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.registry import HOOKS

from ..evaluation.per_condition_iou import PerConditionIoU
from ..files.atomic_io import atomic_write
from ..methods.frame_life import Turn
from ..names.printable import printable
from ..startup.errors import sentence
from ..visualization.stream_plot import plot_stream
from .run_record import RunRecord

COLUMNS = (
    'stream_index',
    'round',
    'condition',
    'loss',
    'entropy',
    'regularisation',
    'confident_fraction',
    'updated',
    'frame_mIoU',
    'running_mIoU',
    'estimated_mIoU',
    'source_estimated_mIoU',
    'source_given',
)
"""What is kept of each frame; a value that a frame has not is None."""


@HOOKS.register_module()
class StreamPlotHook(Hook):
    """Writes ``stream.png`` and ``history.csv`` into the work dir after a test.

    ``RunRecord.history`` is a list with one dict for each frame; the keys are ``COLUMNS``. The
    losses, the running estimates of mIoU, and whether the method returned the source's prediction
    come from ``runner.model.last_step``. The evaluator's ``PerConditionIoU`` computes two mIoUs in
    percent: of the frame, and of its condition in this round up to this frame. Each process has its
    own stream; processes other than the main one write ``stream_rank1.png`` and so on.

    Args:
        out_dir: The folder to write to; None for the runner's ``work_dir``.
    """

    priority = Turn.SHOW

    def __init__(self, out_dir: Optional[str] = None) -> None:
        self.out_dir = out_dir

    def before_test(self, runner: Any) -> None:
        """Creates an empty history, unless the record already has one."""
        if RunRecord(runner).history is None:
            RunRecord(runner).history = []

    def after_test_iter(
        self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Sequence = ()
    ) -> None:
        """Adds an entry for each frame of a batch to the history."""
        history = RunRecord(runner).history
        metric = PerConditionIoU.among(runner.test_evaluator.metrics)
        step = _last_step(runner.model)
        for index, sample in enumerate(outputs):
            info = sample.metainfo
            entry = dict.fromkeys(COLUMNS)
            entry.update({key: step[key] for key in COLUMNS if key in step})
            entry['stream_index'] = int(info.get('stream_index', len(history)))
            entry['round'] = int(info.get('round', 1))
            entry['condition'] = str(info.get('condition', 'all'))
            if metric is not None:
                entry['frame_mIoU'] = metric.frame_mIoU(index)
                entry['running_mIoU'] = metric.running_mIoU(index)
            history.append(entry)

    def after_test(self, runner: Any) -> None:
        """Writes the table and the plot. If this fails, the hook only logs a warning."""
        history = RunRecord(runner).history
        if not history:
            return
        folder = Path(self.out_dir or runner.work_dir)
        rank = get_rank()
        ending = f'_rank{rank}' if rank else ''
        source = RunRecord(runner).source or {}
        levels = {name: part.get('mIoU') for name, part in source.get('conditions', {}).items()}
        try:
            _write_csv(history, folder / f'history{ending}.csv')
            plot_stream(
                history,
                folder / f'stream{ending}.png',
                source=levels,
                events=RunRecord(runner).events,
                title=printable(RunRecord(runner).method or ''),
            )
        except OSError as error:
            runner.logger.warning(
                f'the history or the plot of the stream is not written: {sentence(error)}'
            )


def _last_step(model: Any) -> dict:
    """The values of the model's latest step by name; NaN becomes None. Empty without steps."""
    step = getattr(model.module if is_model_wrapper(model) else model, 'last_step', None)
    if not is_dataclass(step):
        return {}
    return {key: None if _is_nan(value) else value for key, value in asdict(step).items()}


def _is_nan(value: Any) -> bool:
    return isinstance(value, float) and math.isnan(value)


def _write_csv(history: Sequence[Mapping], path: Path) -> None:
    with atomic_write(path) as temporary:
        with open(temporary, 'w', encoding='utf-8', errors='backslashreplace', newline='') as file:
            writer = csv.DictWriter(file, COLUMNS, extrasaction='ignore', lineterminator='\n')
            writer.writeheader()
            writer.writerows(history)
