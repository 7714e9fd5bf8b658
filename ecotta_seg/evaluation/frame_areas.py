"""``frame_areas.jsonl``: the class areas of each scored frame of a run, one line per frame.

.. code-block:: text

    {"round": int, "condition": str, "frame": str, "method": AREAS, "source": AREAS or null}
    AREAS = [[class, intersection, predicted, labelled], ...]

``"frame"`` is the path of the image and names the frame in all rounds. Areas are in pixels; classes
that are neither predicted nor labelled are left out. The source is scored only in round 1, because
its prediction for a frame is the same in each round. Frames without a labelled pixel have no line.
"""

import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple, Optional, Union

import torch
from torch import Tensor

from .class_areas import intersection_over_union

STEM, SUFFIX = 'frame_areas', '.jsonl'


class FrameAreas(NamedTuple):
    """The areas of a run.

    Attributes:
        frames: The sorted names of the F frames, by condition.
        method: By condition, the (R, F, 3, C) int64 areas of the method in R rounds, in pixels.
        source: By condition, the (1, F, 3, C) int64 areas of the source, in pixels.
    """

    frames: dict[str, list[str]]
    method: dict[str, Tensor]
    source: dict[str, Tensor]


def encode_frame(
    number: int, condition: str, frame: str, method: Tensor, source: Optional[Tensor]
) -> str:
    """Returns the line of a frame, including the line break.

    Args:
        number: Number of the round.
        condition: Name of the condition.
        frame: Path of the image.
        method: (3, C) int64 pixels, from ``class_areas``.
        source: (3, C) int64 pixels of the source's prediction, or None.
    """
    entry = {
        'round': number,
        'condition': condition,
        'frame': frame,
        'method': _sparse(method),
        'source': None if source is None else _sparse(source),
    }
    return json.dumps(entry, separators=(',', ':')) + '\n'


def _sparse(areas: Tensor) -> list[list[int]]:
    return [[i, *column] for i, column in enumerate(areas.T.tolist()) if any(column)]


def _dense(sparse: list, classes: int) -> Tensor:
    areas = torch.zeros(3, classes, dtype=torch.int64)
    for index, *column in sparse:
        areas[:, index] = torch.tensor(column)
    return areas


def load_frame_areas(folder: Union[str, Path], document: Mapping) -> FrameAreas:
    """Reads the areas of all processes of a run.

    Args:
        folder: The work dir.
        document: The content of ``results.json`` in the work dir. The sums of the areas must give
            the scores in this document.

    Raises:
        FileNotFoundError: The run wrote no areas.
        ValueError: A line cannot be read, or the areas do not match the results.
    """
    paths = sorted(Path(folder).glob(f'{STEM}*{SUFFIX}'))
    if not paths:
        raise FileNotFoundError(
            f'{folder} holds no {STEM}{SUFFIX}; run tools/test_tta.py with --frame-areas'
        )
    method: dict[tuple[str, int], dict[str, Tensor]] = {}
    source: dict[str, dict[str, Tensor]] = {}
    scores = dict(_scores(document))
    for path in paths:
        for entry in _lines(path):
            try:
                key = entry['condition'], entry['round']
                classes = len(scores[key]['IoU'])
                # With several processes the sampler repeats a frame to fill the last batch.
                method.setdefault(key, {})[entry['frame']] = _dense(entry['method'], classes)
                if entry['source'] is not None:
                    found = source.setdefault(entry['condition'], {})
                    found[entry['frame']] = _dense(entry['source'], classes)
            except (KeyError, TypeError, ValueError, IndexError, RuntimeError):
                raise _misfit(path, 'a line belongs to none of their frames') from None
    for key, expected in scores.items():
        _check(paths[0], f'{key[0]} of round {key[1]}', method.get(key, {}), expected)
    names = {name: sorted(frames) for name, frames in source.items()}
    for name, frames in source.items():
        expected = document['source']['conditions'].get(name)
        _check(paths[0], f'{name} of the source', frames, expected or {'frames': 0, 'IoU': {}})
    stacked: dict[str, list[Tensor]] = {}
    for (name, _), frames in method.items():
        if sorted(frames) != names.get(name):
            raise _misfit(paths[0], f'the source and the rounds of {name} have other frames')
        stacked.setdefault(name, []).append(torch.stack([frames[f] for f in names[name]]))
    return FrameAreas(
        {name: names[name] for name in stacked},
        {name: torch.stack(rounds) for name, rounds in stacked.items()},
        {name: torch.stack([source[name][f] for f in names[name]])[None] for name in stacked},
    )


def _scores(document: Mapping) -> Iterator[tuple[tuple[str, int], Mapping]]:
    for entry in document['rounds']:
        for name, scores in entry['conditions'].items():
            if scores['frames']:
                yield (name, entry['round']), scores


def _lines(path: Path) -> Iterator[dict]:
    with open(path, encoding='utf-8') as file:
        for number, line in enumerate(file, start=1):
            try:
                entry = json.loads(line)
            except ValueError:
                raise ValueError(f'{path}: line {number} is damaged; repeat the run') from None
            if isinstance(entry, dict):
                yield entry
            else:
                raise _misfit(path, f'line {number} is no object')


def _check(path: Path, what: str, frames: Mapping[str, Tensor], expected: Mapping) -> None:
    if len(frames) != expected['frames']:
        counts = f'{len(frames)} frames instead of {expected["frames"]}'
        raise _misfit(path, f'{what} has {counts}')
    summed = torch.stack(list(frames.values())).sum(0)
    for value, wanted in zip(intersection_over_union(summed).tolist(), expected['IoU'].values()):
        if (wanted is None) != math.isnan(value) or abs(value - (wanted or 0.0)) > 1e-6:
            raise _misfit(path, f'{what} sums up to other scores')


def _misfit(path: Path, reason: str) -> ValueError:
    return ValueError(
        f'{path} does not belong to the results beside it: {reason}; run it again in an empty '
        'folder'
    )
