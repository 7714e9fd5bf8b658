"""The numbers of a frame that a viewer draws as curves."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, Optional

import torch
from mmengine.dist import get_rank, get_world_size

from ..evaluation.per_condition_iou import PerConditionIoU
from ..memory import MIB
from ..memory.process_peak import process_current_bytes
from ..names.file_names import safe_file_name
from .memory_hook import MemoryHook
from .run_record import RunRecord

# Fields of a method's ``last_step``; each curve has the name of its field.
_OF_STEP = (
    *('loss', 'entropy', 'regularisation', 'confident_fraction', 'updated'),
    *('estimated_mIoU', 'source_estimated_mIoU', 'source_given'),
)


def stream_step(done: int, index: int) -> int:
    """Returns a frame's place on the viewer's time axis: its number over all rounds, from 1.

    The frames of all processes count.

    Args:
        done: Number of frames that this process finished before the batch.
        index: Index of the frame in its batch.
    """
    return (done + index) * get_world_size() + get_rank() + 1


def frame_scalars(runner: Any, sample: Any, index: int, frames: int) -> dict[str, float]:
    """Collects the numbers of a finished frame, without new measurements.

    Args:
        runner: The Runner.
        sample: The frame's ``SegDataSample``.
        index: Index of the frame in its batch.
        frames: Number of frames in the batch.

    Returns:
        ``loss``, ``entropy``, ``regularisation``, ``confident_fraction``, ``updated`` (0 or 1),
        ``frame_mIoU``, ``running_mIoU/<condition>`` (over the frames of this condition in this
        round, up to this frame), ``estimated_mIoU``, ``source_estimated_mIoU`` (all mIoUs in
        percent), ``source_given`` (0 or 1), ``events`` (number of events up to this frame),
        ``round``, ``condition`` (its index in the stream), ``seconds`` (of the step, per frame),
        ``memory/process_MiB`` (the process's resident memory now), ``memory/step_MiB`` (the largest
        peak of the measured steps, above the memory that stays between frames) and on a GPU
        ``memory/allocated_MiB``. Missing or non-finite numbers are left out.
    """
    info = sample.metainfo
    condition = str(info.get('condition', 'all'))
    step = getattr(runner.model, 'last_step', None)
    found: dict[str, Optional[float]] = {name: getattr(step, name, None) for name in _OF_STEP}
    metric = PerConditionIoU.among(runner.test_evaluator.metrics)
    if metric is not None:
        found['frame_mIoU'] = metric.frame_mIoU(index)
        found[f'running_mIoU/{safe_file_name(condition)}'] = metric.running_mIoU(index)
    found['events'] = len(RunRecord(runner).events)
    found['round'] = int(info.get('round', 1))
    conditions = list(getattr(runner.test_dataloader.dataset, 'conditions', ()))
    if condition in conditions:
        found['condition'] = conditions.index(condition)
    seconds = getattr(step, 'seconds', None)
    found['seconds'] = None if seconds is None else seconds / frames
    found['memory/process_MiB'] = process_current_bytes() / MIB
    peak = next((h.peak_bytes for h in runner.hooks if isinstance(h, MemoryHook)), None)
    found['memory/step_MiB'] = None if peak is None else peak / MIB
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        found['memory/allocated_MiB'] = torch.cuda.memory_allocated() / MIB
    numbers = {name: float(value) for name, value in found.items() if value is not None}
    return {name: value for name, value in numbers.items() if math.isfinite(value)}


def round_scalars(rounds: Sequence[Mapping], number: int) -> dict[str, float]:
    """Returns the mIoU of a round and of its conditions, in percent.

    The names are ``round_mIoU`` and ``round_mIoU/<condition>``.

    Args:
        rounds: Scores in percent, as from ``PerConditionIoU.summary``.
        number: Number of the round. If ``rounds`` lacks this round, the result is empty.
    """
    for entry in rounds:
        if entry['round'] == number:
            found = {'round_mIoU': entry['mIoU']}
            for name, result in entry['conditions'].items():
                found[f'round_mIoU/{safe_file_name(name)}'] = result['mIoU']
            return {name: value for name, value in found.items() if value is not None}
    return {}
