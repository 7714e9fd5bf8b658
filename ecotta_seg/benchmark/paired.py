"""Computes paired differences to the source, for one run or for all seeds of one entry."""

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
    """Returns a run's record with the new key ``paired``, see ``paired_differences``."""
    paired = None
    if record['error'] is None:
        paired = paired_differences([record['folder']], draws)
    return {**record, 'paired': paired}


def paired_differences(folders: Sequence[str], draws: int = DRAWS) -> Optional[dict]:
    """Computes the paired differences to the source over runs that differ only in their seed.

    Seeds are combined in the same way as rounds. A draw of the bootstrap takes the same frames from
    all seeds, and each seed is compared with the source under the weather of this seed.

    Args:
        folders: The folders of the runs.
        draws: See ``paired_bootstrap``.

    Returns:
        The result of ``paired_bootstrap``; None if a run has no frame areas, or if its frame areas
        do not belong to its results.
    """
    stamps = []
    for folder in folders:
        paths = [Path(folder, 'results.json'), *sorted(Path(folder).glob(f'{STEM}*{SUFFIX}'))]
        try:
            stamps.append(tuple((str(p), p.stat().st_mtime_ns, p.stat().st_size) for p in paths))
        except OSError:
            return None
    return _differences(tuple(folders), draws, tuple(stamps))


# A report is written after each run, and then only one run has changed.
@lru_cache(maxsize=4096)
def _differences(folders: tuple, draws: int, stamps: tuple) -> Optional[dict]:
    try:
        runs = [load_frame_areas(folder, load_results(folder)) for folder in folders]
    except (OSError, ValueError):
        return None
    first = runs[0]
    if any(run.frames != first.frames for run in runs):
        return None
    names = list(first.frames)
    return paired_bootstrap(
        {name: torch.cat([run.method[name] for run in runs]) for name in names},
        {
            name: torch.cat([run.source[name].expand_as(run.method[name]) for run in runs])
            for name in names
        },
        draws,
    )
