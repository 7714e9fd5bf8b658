"""Reads the files of a run's work dir for a report."""

import csv
import io
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple, Optional, Union

from ..evaluation.results import load_results
from .frame_file import read_frame_files
from .run_file import read_run_file
from .unfinished import saved_part

_TEXTS, _FLAGS = ('condition',), ('updated', 'source_given')
_WHOLE = ('stream_index', 'round')


class RunFiles(NamedTuple):
    """The contents of a work dir.

    Attributes:
        folder: The work dir.
        document: A document of ``results.json``, schema 1.
        record: The content of ``run.json``; None if the run has no such file.
        history: A dict for each frame, see ``plot_stream``; empty without ``history.csv``.
        frames: The result of ``read_frame_files``.
        frames_done: If the run has not ended, the number of finished frames of the stream; else
            None.
    """

    folder: Path
    document: dict
    record: Optional[dict]
    history: list[dict]
    frames: list[dict]
    frames_done: Optional[int]


def read_work_dir(folder: Union[str, Path]) -> RunFiles:
    """Reads a work dir.

    If the run has not ended, the results come from its newest saved state.

    Raises:
        FileNotFoundError: The folder does not exist or holds no run.
        ValueError: A file is damaged; the message names the file.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise FileNotFoundError(f'the work dir {folder} does not exist: give the folder of a run')
    record = read_run_file(folder)
    if record is not None and record['finished'] is None:
        part = saved_part(folder, record)
        return RunFiles(
            folder, part.document, record, part.history, read_frame_files(folder), part.frames
        )
    document = load_results(folder)
    return RunFiles(
        folder, document, record, _history(folder / 'history.csv'), read_frame_files(folder), None
    )


def _history(path: Path) -> list[dict]:
    try:
        text = path.read_text(encoding='utf-8')
    except FileNotFoundError:
        return []
    try:
        # A truncated number is still a valid number, so the last line must have an end.
        if not text.endswith('\n'):
            raise ValueError('the last line has no end')
        return [_entry(row) for row in csv.DictReader(io.StringIO(text, newline=''))]
    except (ValueError, TypeError, KeyError, csv.Error):
        raise ValueError(
            f'{path} is damaged: remove the file to make the report without the stream plot'
        ) from None


def _entry(row: Mapping[Any, Any]) -> dict:
    entry: dict[str, Any] = {}
    if None in row.values():
        raise ValueError('a row is shorter than the head')
    for key, value in row.items():
        if key in _TEXTS:
            entry[key] = value
        elif key in _FLAGS:
            entry[key] = value == 'True'
        elif key in _WHOLE:
            entry[key] = int(value)
        else:
            entry[key] = float(value) if value else math.nan
    return entry
