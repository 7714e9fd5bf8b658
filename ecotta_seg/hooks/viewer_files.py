"""The files of mmengine's viewers: written to the disk, and free of steps that come again."""

import json
from pathlib import Path
from typing import Any

from mmengine.visualization import LocalVisBackend, TensorboardVisBackend, Visualizer

from ..atomic_io import atomic_write_text


def flush(visualizer: Visualizer) -> None:
    """Writes to the disk what TensorBoard's backend keeps in memory; others keep nothing."""
    for backend in getattr(visualizer, '_vis_backends', {}).values():
        if isinstance(backend, TensorboardVisBackend):
            backend.experiment.flush()


def forget_steps_after(visualizer: Visualizer, step: int) -> None:
    """Removes the numbers with a later step from the folders that the visualizer writes to.

    mmengine gives each run a folder of its own, in which there is nothing to remove. With one
    ``save_dir`` for a run and its continuation, steps after the saved state would be there twice.
    ``LocalVisBackend`` appends to ``scalars.json``: those lines are cut off. TensorBoard itself
    drops earlier events from the step on that a restart names. Other backends begin a run of their
    own.

    Args:
        visualizer: The Runner's.
        step: The last one that stays.
    """
    for backend in getattr(visualizer, '_vis_backends', {}).values():
        if isinstance(backend, LocalVisBackend):
            _cut(Path(backend.experiment._scalar_save_file), step)
        elif isinstance(backend, TensorboardVisBackend):
            _tell_restart(backend.experiment, step + 1)


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
        # The process was killed amid a line.
        return float('inf')


def _tell_restart(writer: Any, first: int) -> None:
    # As SummaryWriter(purge_step=...) does, which mmengine has no argument for.
    from tensorboard.compat.proto.event_pb2 import Event, SessionLog

    writer.file_writer.add_event(Event(session_log=SessionLog(status=SessionLog.START)), first)
