"""Writes the files of mmengine's viewers to disk, and removes steps that a resumed run repeats."""

import json
from pathlib import Path
from typing import Any

from mmengine.visualization import LocalVisBackend, TensorboardVisBackend, Visualizer

from ..files.atomic_io import atomic_write_text


def flush(visualizer: Visualizer) -> None:
    """Writes TensorBoard's buffered data to disk; other backends buffer nothing."""
    for backend in getattr(visualizer, '_vis_backends', {}).values():
        if isinstance(backend, TensorboardVisBackend):
            backend.experiment.flush()


def forget_steps_after(visualizer: Visualizer, step: int) -> None:
    """Removes the numbers of all later steps from the visualizer's folders.

    By default mmengine gives each run its own folder, which has no later steps. If a run and its
    continuation use one ``save_dir``, the steps after the saved state would appear twice.
    ``LocalVisBackend`` appends to ``scalars.json``, so this function removes the lines of later
    steps. For TensorBoard this function writes a restart event; TensorBoard then ignores older
    events from that step on. Other backends start a new run.

    Args:
        visualizer: The Runner's visualizer.
        step: The last step to keep.
    """
    for backend in getattr(visualizer, '_vis_backends', {}).values():
        if isinstance(backend, LocalVisBackend):
            _cut(Path(backend.experiment._scalar_save_file), step)
        elif isinstance(backend, TensorboardVisBackend):
            _mark_restart(backend.experiment, step + 1)


def _cut(path: Path, step: int) -> None:
    if not path.is_file():
        return
    lines = path.read_text(encoding='utf-8').splitlines(keepends=True)
    kept = [line for line in lines if _step_of(line) <= step]
    if len(kept) < len(lines):
        atomic_write_text(path, ''.join(kept))


def _step_of(line: str) -> float:
    try:
        return json.loads(line).get('step', 0)
    except (ValueError, AttributeError):
        # The process was killed while writing this line.
        return float('inf')


def _mark_restart(writer: Any, first: int) -> None:
    # Like SummaryWriter(purge_step=...), for which mmengine has no argument.
    from tensorboard.compat.proto.event_pb2 import Event, SessionLog

    writer.file_writer.add_event(Event(session_log=SessionLog(status=SessionLog.START)), first)
