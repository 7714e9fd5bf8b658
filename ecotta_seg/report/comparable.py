"""Checks that the scores of two runs can be compared: the same frames, the same labels."""

from collections.abc import Mapping
from typing import Optional

from .work_dir import RunFiles


def refuse_others(first: RunFiles, other: RunFiles) -> None:
    """Refuses a run that was scored on other frames or labels than the first run.

    Args:
        first, other: Two runs that have ended and have a ``run.json``.

    Raises:
        ValueError: The frames or labels differ; the message describes the first difference.
    """
    reason = _difference(first, other)
    if reason is not None:
        raise ValueError(
            f'{other.folder} cannot be compared with {first.folder}: {reason}; compare runs on '
            'the same frames and labels'
        )


def is_known(run: RunFiles) -> bool:
    """Whether a run's ``run.json`` identifies the frames by their names."""
    return run.record['data']['frames'] is not None


def _difference(first: RunFiles, other: RunFiles) -> Optional[str]:
    if first.record['classes'] != other.record['classes']:
        return (
            f'the classes differ ({len(first.record["classes"])} and '
            f'{len(other.record["classes"])} names)'
        )
    for key in ('mean_over', 'ignore_index'):
        own, others = ((run.record['metric'] or {}).get(key) for run in (first, other))
        if own != others:
            return f'the metric has {key} {own!r} in the first and {others!r} in the other'
    return (
        _other_frames(first, other) or _other_settings(first, other) or _other_labels(first, other)
    )


def _other_frames(first: RunFiles, other: RunFiles) -> Optional[str]:
    own, others = set(first.document['conditions']), set(other.document['conditions'])
    if own != others:
        names = ', '.join(sorted(own ^ others))
        return f'only one of them has frames of {names}'
    for name in first.document['conditions']:
        scored, others_scored = _scored(first, name), _scored(other, name)
        if scored != others_scored:
            return f'the scored frames of {name} are {scored} and {others_scored}'
    if is_known(first) and is_known(other):
        frames, others_frames = (run.record['data']['frames'] for run in (first, other))
        for name, found in frames.items():
            if found['digest'] != (others_frames.get(name) or {}).get('digest'):
                return f'the frames of {name} differ'
    return None


def _scored(run: RunFiles, condition: str) -> list[int]:
    """The distinct numbers of scored frames per round; one number if all rounds are equal."""
    results = [entry['conditions'].get(condition) for entry in run.document['rounds']]
    return sorted({result['frames'] for result in results if isinstance(result, Mapping)})


def _other_settings(first: RunFiles, other: RunFiles) -> Optional[str]:
    own, others = (run.record['data']['settings'] for run in (first, other))
    for name in [*own, *(name for name in others if name not in own)]:
        if own.get(name) != others.get(name):
            return (
                f'the frames are made by another {name} '
                f'({own.get(name, "none")} and {others.get(name, "none")})'
            )
    return None


def _other_labels(first: RunFiles, other: RunFiles) -> Optional[str]:
    own, others = _labelled(first.document), _labelled(other.document)
    if own == others:
        return None
    total, others_total = sum(own.values()), sum(others.values())
    if total and others_total and total != others_total:
        return (
            f'the labels are at another scale ({total} and {others_total} labelled pixels in a '
            'round)'
        )
    return 'the labels differ'


def _labelled(document: Mapping) -> dict[str, int]:
    """Labelled pixels of each class in a round; empty without labels."""
    confusion = (document.get('confusion') or {}).get('method') or {}
    return {name: sum(row.values()) for name, row in confusion.get('pixels', {}).items()}
