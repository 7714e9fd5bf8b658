"""Compares several runs with the first of them; all runs must have the same frames."""

from collections.abc import Mapping, Sequence
from pathlib import Path, PurePath
from typing import NamedTuple, Optional, Union

import torch

from ..evaluation.class_areas import LABELLED, mean_of
from ..evaluation.frame_areas import FrameAreas, load_frame_areas
from ..evaluation.paired_bootstrap import paired_bootstrap
from ..evaluation.table import condition_score
from ..startup.first_look import check_runs
from .comparable import is_known, refuse_others
from .work_dir import RunFiles, read_work_dir

_NAME_PARTS = 3


class Comparison(NamedTuple):
    """Runs that can be compared.

    Attributes:
        names: A short name for each run.
        runs: The contents of their work dirs; the others are compared with the first.
        rounds: The number of rounds that all runs have.
        differences: For each run except the first ``{'conditions': {NAME: ENTRY}, 'mean': ENTRY}``
            over these rounds, as from ``paired_bootstrap``; without intervals ``'low'`` and
            ``'high'`` are None.
        notes: Notes for the reader, one sentence each.
    """

    names: list[str]
    runs: list[RunFiles]
    rounds: int
    differences: list[dict]
    notes: list[str]


def compare_runs(folders: Sequence[Union[str, Path]], draws: int = 1000) -> Comparison:
    """Reads runs and compares them with the first.

    Args:
        folders: At least two work dirs.
        draws: Number of bootstrap draws.

    Raises:
        FileNotFoundError: A folder does not exist or holds no run.
        ValueError: There are fewer than two folders, a folder is given twice, or a run has not
            ended, has no scores or no ``run.json``, or is not comparable with the first.
    """
    check_runs(folders, least=2)
    resolved = [Path(folder).resolve() for folder in folders]
    runs = [_checked(folder) for folder in folders]
    for other in runs[1:]:
        refuse_others(runs[0], other)
    names = _short_names(resolved)
    rounds = min(len(run.document['rounds']) for run in runs)
    notes = [f'All numbers but those of single rounds are means over {_rounds_text(rounds)}.']
    if any(len(run.document['rounds']) != rounds for run in runs):
        notes.append('Some runs have more rounds, which only the table of rounds shows.')
    if not all(map(is_known, runs)):
        notes.append('A data set does not name its frames: only their number was compared.')
    areas = []
    for name, run in zip(names, runs):
        found, reason = _areas(run)
        areas.append(found)
        if reason:
            notes.append(f'There is no interval with {name}: {reason}.')
    differences = [
        _difference(runs[0], run, areas[0], found, rounds, draws)
        for run, found in zip(runs[1:], areas[1:])
    ]
    return Comparison(names, runs, rounds, differences, notes)


def _rounds_text(rounds: int) -> str:
    return 'round 1' if rounds == 1 else f'rounds 1 to {rounds}'


def _checked(folder: Union[str, Path]) -> RunFiles:
    run = read_work_dir(folder)
    if run.frames_done is not None:
        raise ValueError(
            f'the run in {folder} has not ended: resume it with tools/test_tta.py --resume first'
        )
    if run.record is None:
        raise ValueError(
            f'{folder} has no run.json, so that the frames of its scores are not known: '
            'run the test again with this version'
        )
    if run.document['mean_mIoU'] is None:
        raise ValueError(f'the run in {folder} has no scores: use a run on frames with labels')
    return run


def _short_names(paths: Sequence[PurePath]) -> list[str]:
    """The last parts of the paths, as many as are needed for unique names."""
    depth = 1
    while len({path.parts[-depth:] for path in paths}) < len(paths):
        depth += 1
    return ['/'.join(path.parts[-depth:]) for path in paths]


def _areas(run: RunFiles) -> tuple[Optional[FrameAreas], str]:
    """The areas of a run's frames, or None, and the reason if there are none."""
    try:
        return load_frame_areas(run.folder, run.document), ''
    except FileNotFoundError:
        return None, 'the run was made without --frame-areas'
    except ValueError as error:
        return None, str(error)


def mean_score(run: RunFiles, condition: Optional[str], rounds: int) -> Optional[float]:
    """Returns the mean mIoU in percent over the first ``rounds`` rounds.

    If ``condition`` is None, the mean is also over all conditions.
    """
    entries = run.document['rounds'][:rounds]
    if condition is None:
        return mean_of([entry['mIoU'] for entry in entries])
    return mean_of([condition_score(entry, condition) for entry in entries])


def _difference(
    first: RunFiles,
    other: RunFiles,
    first_areas: Optional[FrameAreas],
    other_areas: Optional[FrameAreas],
    rounds: int,
    draws: int,
) -> dict:
    if first_areas is not None and other_areas is not None:
        _refuse_other_frames(first, other, first_areas, other_areas)
        names = list(first_areas.method)
        return paired_bootstrap(
            {name: other_areas.method[name][:rounds] for name in names},
            {name: first_areas.method[name][:rounds] for name in names},
            draws,
            mean_over=(first.record['metric'] or {}).get('mean_over', 'labelled'),
        )

    def entry(condition: Optional[str]) -> dict:
        scores = [mean_score(run, condition, rounds) for run in (other, first)]
        difference = None if None in scores else scores[0] - scores[1]
        return {'difference': difference, 'low': None, 'high': None}

    conditions = {name: entry(name) for name in first.document['conditions']}
    return {'conditions': conditions, 'mean': entry(None)}


def _refuse_other_frames(
    first: RunFiles, other: RunFiles, first_areas: FrameAreas, other_areas: FrameAreas
) -> None:
    """Compares the frames by their names and by the labelled area of each class."""
    for name in first_areas.frames:
        same = _tails(first_areas.frames, name) == _tails(other_areas.frames, name)
        if same:
            own, others = (
                found.method[name][:1, :, LABELLED] for found in (first_areas, other_areas)
            )
            same = torch.equal(own, others)
        if not same:
            raise ValueError(
                f'{other.folder} cannot be compared with {first.folder}: the frames of {name} or '
                'their labels differ; compare runs on the same frames and labels'
            )


def _tails(frames: Mapping[str, Sequence[str]], condition: str) -> list[tuple[str, ...]]:
    """The last parts of each frame's path, which do not depend on the data set's folder."""
    return [PurePath(path).parts[-_NAME_PARTS:] for path in frames.get(condition, ())]
