"""The gain of a method over the source on the same frames, with bootstrap intervals."""

from collections.abc import Mapping, Sequence
from typing import Optional

import numpy as np
import torch
from torch import Tensor

from .class_areas import LABELLED, counted_classes, intersection_over_union


def paired_bootstrap(
    method: Mapping[str, Tensor],
    source: Mapping[str, Tensor],
    draws: int = 1000,
    level: float = 0.95,
    seed: int = 0,
    mean_over: str = 'labelled',
) -> dict:
    """Computes the difference in mIoU and its interval, by resampling frames with replacement.

    A draw has as many frames as the condition. The method, the source and all rounds use the same
    drawn frames, and each mIoU comes from the areas summed over these frames. The draws of the mean
    over conditions are the means of the conditions' draws. The interval holds the middle ``level``
    of the draws (Efron's percentile interval).

    Args:
        method: (R, F, 3, C) int64 areas in pixels by condition, of R rounds of the same F frames,
            from ``class_areas``. The numbers of rounds and frames may differ by condition.
        source: The source's areas on the same frames, (R, F, 3, C). If they are (1, F, 3, C), they
            are used for all rounds.
        draws: Number of draws.
        level: Fraction of the draws in the interval, above 0 and below 1.
        seed: Seed of the draws. A condition's draws depend on the seed, the name of the condition
            and its number of frames.
        mean_over: See ``class_areas.mean_iou``.

    Returns:
        ``{'conditions': {NAME: ENTRY}, 'mean': ENTRY}`` with ENTRY = ``{'difference', 'low',
        'high', 'frames'}``. ``'difference'`` is the mean over rounds of the method's mIoU minus the
        source's, ``'low'`` and ``'high'`` are the ends of its interval, all in percentage points.
        ``'frames'`` is F. ``'mean'`` has the means over conditions, also of ``'frames'``.

    Raises:
        ValueError: The areas are not of the same frames, a frame has no labelled pixel, there is
            nothing to compare, or ``draws`` or ``level`` is out of range.
    """
    if draws < 1 or not 0 < level < 1:
        raise ValueError(
            f'paired_bootstrap: expected at least 1 draw and a level between 0 and 1, got {draws} '
            f'and {level}'
        )
    if not method or list(method) != list(source):
        raise ValueError(
            'paired_bootstrap: expected the same conditions of the method and the source, and at '
            f'least one, got {list(method)} and {list(source)}'
        )
    entries, all_drawn = {}, []
    for name in method:
        areas = _checked(name, method[name], source[name])
        frames = areas[0].shape[1]
        generator = np.random.default_rng([seed, *name.encode('utf-8', 'surrogateescape')])
        drawn = generator.integers(frames, size=(draws, frames))
        counts = torch.stack([torch.bincount(row, minlength=frames) for row in torch.tensor(drawn)])
        # The first row has each frame once.
        counts = torch.cat([torch.ones(1, frames, dtype=counts.dtype), counts])
        above, below = (_mean_ious(part, counts, mean_over) for part in areas)
        differences = above - below
        entries[name] = _entry(differences, level, frames)
        all_drawn.append(differences)
    frames = sum(entry['frames'] for entry in entries.values()) / len(entries)
    return {
        'conditions': entries,
        'mean': _entry(torch.stack(all_drawn).mean(0), level, frames),
    }


def _checked(name: str, method: Tensor, source: Tensor) -> Sequence[Tensor]:
    same = method.shape[1:] == source.shape[1:] and source.shape[0] in (1, method.shape[0])
    if method.dim() != 4 or method.shape[2] != 3 or not same or not method.numel():
        raise ValueError(
            f'paired_bootstrap: expected areas (rounds, frames, 3, classes) of the same frames in '
            f'{name!r}, got {tuple(method.shape)} of the method and {tuple(source.shape)} of the '
            'source'
        )
    for areas in (method, source):
        if not (areas[:, :, LABELLED].sum(-1) > 0).all():
            raise ValueError(
                f'paired_bootstrap: a frame of {name!r} has no labelled pixel; leave such frames '
                'out'
            )
    return method, source


def _mean_ious(areas: Tensor, counts: Tensor, mean_over: str) -> Tensor:
    """(D,) float64: the mIoU in percent over each draw's frames, averaged over rounds.

    Args:
        areas: (R, F, 3, C) int64.
        counts: (D, F) int64: number of times that a frame is in a draw.
        mean_over: See ``class_areas.mean_iou``.
    """
    rounds, frames, rows, classes = areas.shape
    flat = areas.permute(1, 2, 0, 3).reshape(frames, -1).double()
    # Sums of whole numbers below 2^53 are exact in float64.
    summed = (counts.double() @ flat).reshape(-1, rows, rounds, classes).transpose(0, 1)
    counted = counted_classes(summed, mean_over)
    iou = torch.where(counted, intersection_over_union(summed), 0.0)
    return (iou.sum(-1) / counted.sum(-1)).mean(-1)


def _entry(differences: Tensor, level: float, frames: Optional[float]) -> dict:
    ends = torch.tensor([(1 - level) / 2, (1 + level) / 2], dtype=differences.dtype)
    low, high = torch.quantile(differences[1:], ends).tolist()
    return {'difference': float(differences[0]), 'low': low, 'high': high, 'frames': frames}
