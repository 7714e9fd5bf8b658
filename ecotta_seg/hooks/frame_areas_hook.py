"""Writes the class areas of each scored frame, for the method's and the source's prediction."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO, Optional

from mmengine.dist import get_rank
from mmengine.hooks import Hook
from mmengine.registry import HOOKS

from ..evaluation.frame_areas import STEM, SUFFIX, encode_frame
from ..evaluation.per_condition_iou import PerConditionIoU
from ..methods.frame_life import Turn


@HOOKS.register_module()
class FrameAreasHook(Hook):
    """Writes ``frame_areas.jsonl`` into the work dir, one line after each frame.

    Memory use is constant. A run that resumes from a state of ``StreamStateHook`` deletes the lines
    of frames after that state. Each further process writes its own file,
    ``frame_areas_rank1.jsonl`` and so on. The areas come from the evaluator's ``PerConditionIoU``
    and from ``SourceReferenceHook``; see :mod:`~ecotta_seg.evaluation.frame_areas` for the format.

    Args:
        out_dir: The folder to write to; None for the runner's ``work_dir``.
    """

    priority = Turn.KEEP

    def __init__(self, out_dir: Optional[str] = None) -> None:
        self.out_dir = out_dir
        self._file: Optional[BinaryIO] = None
        self._start = 0

    def before_test(self, runner: Any) -> None:
        """Keeps no lines. If the run resumes, its saved state then sets how many lines to keep."""
        self._close()
        self._start = 0
        ending = f'_rank{get_rank()}' if get_rank() else ''
        self._path = Path(self.out_dir or runner.work_dir) / f'{STEM}{ending}{SUFFIX}'

    def before_test_epoch(self, runner: Any) -> None:
        """Opens the file and deletes lines that do not belong to this run."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._file = open(self._path, 'ab')
        there = self._file.tell()
        if there < self._start:
            runner.logger.warning(
                f'{self._path} has lost lines of frames before the stop: this run will have no '
                'paired differences to the source'
            )
        self._file.truncate(min(there, self._start))
        self._file.seek(0, os.SEEK_END)

    def after_test_iter(
        self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Sequence = ()
    ) -> None:
        """Writes one line for each scored frame of a batch."""
        metric = PerConditionIoU.among(runner.test_evaluator.metrics)
        if metric is None:
            return
        source = next((h for h in runner.hooks if hasattr(h, 'source_areas')), None)
        for index, sample in enumerate(outputs):
            areas = metric.frame_areas(index)
            if areas is None:
                continue
            info = sample.metainfo
            line = encode_frame(
                int(info.get('round', 1)),
                str(info.get('condition', 'all')),
                str(info.get('img_path', info.get('stream_index', batch_idx))),
                areas,
                source.source_areas(index) if source is not None else None,
            )
            self._file.write(line.encode())
        self._file.flush()

    def after_test(self, runner: Any) -> None:
        """Closes the file."""
        self._close()

    def _close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def state_dict(self) -> dict:
        """Makes sure that all written lines are on the disk, and returns their size in bytes."""
        if self._file is None:
            return {'bytes': self._start}
        os.fsync(self._file.fileno())
        return {'bytes': self._file.tell()}

    def load_state_dict(self, state: dict) -> None:
        """Sets how many bytes at the start of the file to keep."""
        self._start = int(state['bytes'])
