"""Paired differences to the source: of one cell, or of the seeds of one entry together."""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Optional

import torch

from ..evaluation.frame_areas import STEM, SUFFIX, load_frame_areas
from ..evaluation.paired_bootstrap import paired_bootstrap
from ..evaluation.results import load_results

DRAWS = 1000


def with_paired(record: Mapping, draws: int = DRAWS) -> dict:
    """A cell's record with ``paired``, see ``paired_differences``."""
    paired = None
    if record['error'] is None:
        paired = paired_differences([record['folder']], draws)
    return {**record, 'paired': paired}


def paired_differences(folders: Sequence[str], draws: int = DRAWS) -> Optional[dict]:
    """The differences of cells that differ by their seed alone.

    Seeds are taken together as rounds are: a draw takes the same frames of all of them, each seed
    against the source under its own weather.

    Args:
        folders: Of the cells.
        draws: See ``paired_bootstrap``.

    Returns:
        What ``paired_bootstrap`` gives. None where a cell kept no areas of frames, or those of
        another run.
    """
    stamps = []
    for folder in folders:
        paths = [Path(folder, 'results.json'), *sorted(Path(folder).glob(f'{STEM}*{SUFFIX}'))]
        try:
            stamps.append(tuple((str(p), p.stat().st_mtime_ns, p.stat().st_size) for p in paths))
        except OSError:
            return None
    return _differences(tuple(folders), draws, tuple(stamps))


# A report is written after each cell, and all cells but one are as they were.
@lru_cache(maxsize=4096)
def _differences(folders: tuple, draws: int, stamps: tuple) -> Optional[dict]:
    try:
        cells = [load_frame_areas(folder, load_results(folder)) for folder in folders]
    except (OSError, ValueError):
        return None
    first = cells[0]
    if any(cell.frames != first.frames for cell in cells):
        return None
    names = list(first.frames)
    return paired_bootstrap(
        {name: torch.cat([cell.method[name] for cell in cells]) for name in names},
        {
            name: torch.cat([cell.source[name].expand_as(cell.method[name]) for cell in cells])
            for name in names
        },
        draws,
    )
