"""Draws the memory benchmark: peaks and times compared with those of inference."""

from collections.abc import Sequence
from pathlib import Path
from typing import Union

from matplotlib.axes import Axes

from ..files.atomic_io import atomic_write
from ..memory import MIB
from .plots import _figure, _plain

# Colours from Okabe and Ito's palette, which colour-blind readers can distinguish.
_OTHERS, _OURS, _INFERENCE = '#e69f00', '#0072b2', '#4d4d4d'


def plot_memory_rows(document: dict, path: Union[str, Path]) -> Path:
    """Draws two panels of bars: peak memory of a step, and its time.

    Args:
        document: See ``write_memory_json``.
        path: The picture to write (atomically).

    Returns:
        The path.
    """
    rows = document['rows']
    height, width = document['size']
    figure = _figure(11, 1.5 + 0.36 * len(rows))
    memory, seconds = figure.subplots(1, 2, sharey=True)
    unit, name = (2**30, 'GiB') if _largest(rows, 'peak_bytes') >= 2**32 else (MIB, 'MiB')
    _bars(memory, rows, 'peak_bytes', unit)
    memory.set_xlabel(f'peak of a step above parameters and adapters, {name}')
    _bars(seconds, rows, 'seconds', 1)
    seconds.set_xlabel('seconds a step; |: inference, timed in turn with it')
    memory.set_yticks(range(len(rows)), [_plain(row['name']) for row in rows])
    figure.suptitle(
        _plain(f'{document["config"]}, {height} x {width}, {document["device"]}'), fontsize=10
    )
    with atomic_write(path) as temporary:
        figure.savefig(temporary, dpi=110)
    return Path(path)


def _largest(rows: Sequence[dict], key: str) -> float:
    return max(row[key] or 0 for row in rows)


def _bars(axes: Axes, rows: Sequence[dict], key: str, unit: float) -> None:
    ratio = key.replace('_bytes', '') + '_to_inference'
    for place, row in enumerate(rows):
        if row[key] is None:
            text = 'cannot be met' if row['smallest_bytes'] else 'not measured'
            axes.text(0, place, f' {text}', va='center', fontsize=8, color=_INFERENCE)
            continue
        ours = row['name'].startswith('ecotta@')
        colour = _INFERENCE if place == 0 else _OURS if ours else _OTHERS
        axes.barh(place, row[key] / unit, height=0.7, color=colour)
        text = f' {row[key] / unit:.3g}' if place == 0 else f' {row[ratio]:.2f}x'
        axes.text(row[key] / unit, place, text, va='center', fontsize=8)
        if key == 'seconds' and place:
            # The inference time that was measured in alternation with this row.
            axes.plot(row['inference_seconds'], place, marker='|', ms=14, color='black')
    if key != 'seconds':
        axes.axvline(rows[0][key] / unit, color='black', lw=1, ls=':')
    axes.margins(x=0.14)
    axes.set_xlim(left=0)
    axes.set_ylim(len(rows) - 0.5, -0.5)  # the first row on top
    axes.grid(axis='x', alpha=0.25, lw=0.5)
    axes.set_axisbelow(True)
