"""Plots a stream in one picture: running mIoU above, loss below."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Optional, Union

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from ..files.atomic_io import atomic_write

# Pale colours, easy to tell apart, also for colour-blind readers; the curves are dark.
_SHADES = ('#dbe3ea', '#c5cbe0', '#d3ead9', '#f3e6d0', '#ecd7e4', '#e4e4cf', '#d0ecec', '#f0dcd5')
_LINES = ('#2f6b9a', '#5b3a8c', '#2e8b57', '#c77d0a', '#b0417f', '#7a7a1f', '#1f8f8f', '#a8502f')
_DARK, _LIGHT, _SOURCE, _EVENT = '#1f4e79', '#9bb7d0', '#444444', '#c0392b'
_ESTIMATES = (
    ('estimated_mIoU', 'estimated mIoU', '#d35400'),
    ('source_estimated_mIoU', 'estimated mIoU of the source', '#7f8c8d'),
)
_LOSSES = (('loss', '#7b3294'), ('entropy', '#008837'), ('regularisation', '#e66101'))


class _Segment(NamedTuple):
    """A range of frames of one condition and round, including both ends."""

    first: int
    last: int
    round: int
    condition: str


def plot_stream(
    history: Sequence[Mapping],
    path: Union[str, Path],
    source: Optional[Mapping[str, Optional[float]]] = None,
    events: Sequence[Mapping] = (),
    title: str = '',
) -> Path:
    """Draws a stream's history and writes a picture, either completely or not at all.

    Args:
        history: One dict per frame in the order of the stream, with ``round``, ``condition``,
            ``frame_mIoU`` and ``running_mIoU`` (of the condition in this round up to this frame;
            both in percent), ``loss``, ``entropy`` and ``regularisation``. If there is an estimate,
            also ``estimated_mIoU``, ``source_estimated_mIoU`` and ``source_given``. Missing values
            are None or NaN.
        path: The file to write; its suffix chooses the format.
        source: mIoU of the source model in percent, by condition. The plot has a dashed line for
            each condition.
        events: Dicts with ``stream_index`` (or ``frame``). The plot marks these frames.
        title: A line above the plot.

    Returns:
        The path.

    Raises:
        ValueError: The history is empty.
    """
    if not history:
        raise ValueError('there is nothing to plot: the history of the stream is empty')
    path = Path(path)
    figure = draw_stream(history, source, events, title)
    with atomic_write(path) as temporary:
        figure.savefig(temporary, dpi=110)
    return path


def draw_stream(
    history: Sequence[Mapping],
    source: Optional[Mapping[str, Optional[float]]] = None,
    events: Sequence[Mapping] = (),
    title: str = '',
    narrow: bool = False,
) -> Figure:
    """Draws the figure that :func:`plot_stream` writes.

    Args:
        history, source, events, title: See :func:`plot_stream`.
        narrow: Portrait format with a legend in two columns, for a phone.

    Returns:
        The figure.
    """
    figure = Figure(figsize=(4.6, 6.4) if narrow else (13, 7), layout='constrained')
    FigureCanvasAgg(figure)
    score_axes, loss_axes = figure.subplots(2, 1, sharex=True, height_ratios=(3, 2))
    segments = _segments(history)
    conditions = list(dict.fromkeys(segment.condition for segment in segments))
    shades = {name: _SHADES[i % len(_SHADES)] for i, name in enumerate(conditions)}
    # If conditions change from frame to frame, only the lines are readable.
    blocks = len(segments) <= max(1, len(history) // 3)
    if blocks:
        for axes in (score_axes, loss_axes):
            _shade(axes, segments, shades)
    _mark_rounds(score_axes, loss_axes, segments)
    _plot_frames(score_axes, history)
    if blocks:
        _plot_blocks(score_axes, history, segments, source or {})
    else:
        _plot_mixture(score_axes, history, conditions, source or {})
    _plot_estimates(score_axes, history)
    # Last, because a fixed limit stops the automatic scaling to the data.
    score_axes.set_ylim(bottom=0)
    _plot_losses(loss_axes, history, segments if blocks else [])
    _mark_events(score_axes, loss_axes, events, history)
    handles, labels = score_axes.get_legend_handles_labels()
    if blocks:
        handles += [Patch(color=shades[name]) for name in conditions]
        labels += [_plain(name) for name in conditions]
    if handles:
        # The number of columns that fit with the longest label.
        options = dict(ncols=2, fontsize=8.5) if narrow else dict(ncols=5)
        figure.legend(handles, labels, loc='outside lower center', frameon=False, **options)
    if title:
        figure.suptitle(_plain(title))
    return figure


def _plain(text: object) -> str:
    # matplotlib parses text between dollar signs as mathematics and omits legend entries with a
    # leading underscore.
    text = str(text).replace('$', r'\$')
    return ' ' + text if text.startswith('_') else text


def _values(history: Sequence[Mapping], key: str) -> np.ndarray:
    """(frames,) float64: the value of each frame, NaN for a frame without a finite value."""
    values = [entry.get(key) for entry in history]
    values = [math.nan if value is None else float(value) for value in values]
    return np.where(np.isfinite(values), values, math.nan)


def _segments(history: Sequence[Mapping]) -> list[_Segment]:
    segments: list[_Segment] = []
    for index, entry in enumerate(history):
        key = (int(entry.get('round', 1)), str(entry.get('condition', 'all')))
        if segments and segments[-1][2:] == key:
            segments[-1] = segments[-1]._replace(last=index)
        else:
            segments.append(_Segment(index, index, *key))
    return segments


def _shade(axes: Axes, segments: Sequence[_Segment], shades: Mapping[str, str]) -> None:
    for segment in segments:
        axes.axvspan(segment.first - 0.5, segment.last + 0.5, color=shades[segment.condition], lw=0)


def _mark_rounds(top: Axes, bottom: Axes, segments: Sequence[_Segment]) -> None:
    starts: dict[int, int] = {}
    for segment in segments:
        starts.setdefault(segment.round, segment.first)
    last = segments[-1].last
    for number, start in starts.items():
        if start:
            for axes in (top, bottom):
                axes.axvline(start - 0.5, color='black', lw=1)
        top.annotate(
            f'round {number}' if len(starts) <= 12 else str(number),
            (start - 0.5, 1),
            (4, -4),
            xycoords=('data', 'axes fraction'),
            textcoords='offset points',
            va='top',
            fontsize=9,
        )
    bottom.set_xlim(-0.5, last + 0.5)


def _plot_frames(axes: Axes, history: Sequence[Mapping]) -> None:
    size = 3 if len(history) <= 2000 else 1.5
    values = _values(history, 'frame_mIoU')
    if np.isfinite(values).any():
        axes.plot(values, '.', ms=size, color=_LIGHT, label='mIoU of a frame')
    axes.set_ylabel('mIoU in percent')
    axes.margins(y=0.12)


def _plot_blocks(
    axes: Axes,
    history: Sequence[Mapping],
    segments: Sequence[_Segment],
    source: Mapping[str, Optional[float]],
) -> None:
    """Draws the running mIoU, which restarts with each segment, and the source's level."""
    running = _values(history, 'running_mIoU')
    labels = {'running mIoU of the condition', 'source mIoU of the condition'}

    def once(label: str) -> Optional[str]:
        if label in labels:
            labels.remove(label)
            return label
        return None

    for segment in segments:
        frames = np.arange(segment.first, segment.last + 1)
        if not np.isfinite(running[frames]).any():
            continue
        label = once('running mIoU of the condition')
        axes.plot(frames, running[frames], color=_DARK, lw=1.8, label=label)
    for segment in segments:
        level = source.get(segment.condition)
        if level is not None and math.isfinite(level):
            ends = [segment.first - 0.5, segment.last + 0.5]
            label = once('source mIoU of the condition')
            axes.plot(ends, [level] * 2, '--', color=_SOURCE, lw=1.3, label=label)


def _plot_estimates(axes: Axes, history: Sequence[Mapping]) -> None:
    """Draws the running estimates, and marks frames for which the source's prediction was given."""
    for key, label, colour in _ESTIMATES:
        values = _values(history, key)
        if np.isfinite(values).any():
            axes.plot(values, ':', color=colour, lw=1.4, label=label)
    given = np.flatnonzero([bool(entry.get('source_given')) for entry in history])
    if len(given):
        axes.plot(
            given,
            np.full(len(given), 0.0),
            '|',
            color=_SOURCE,
            ms=8,
            transform=axes.get_xaxis_transform(),
            label="source's prediction given out",
        )


def _plot_mixture(
    axes: Axes,
    history: Sequence[Mapping],
    conditions: Sequence[str],
    source: Mapping[str, Optional[float]],
) -> None:
    """Draws a line for each condition and round, and the source's mIoU as a dashed line."""
    running = _values(history, 'running_mIoU')
    names = np.array([str(entry.get('condition', 'all')) for entry in history], dtype=object)
    rounds = np.array([int(entry.get('round', 1)) for entry in history])
    for index, condition in enumerate(conditions):
        colour = _LINES[index % len(_LINES)]
        label = f'{_plain(condition)}, running (source dashed)'
        for number in np.unique(rounds):
            frames = np.flatnonzero((names == condition) & (rounds == number))
            axes.plot(frames, running[frames], color=colour, lw=1.8, label=label)
            label = None
        level = source.get(condition)
        if level is not None and math.isfinite(level):
            axes.axhline(level, ls='--', color=colour, lw=1.2)


def _plot_losses(axes: Axes, history: Sequence[Mapping], segments: Sequence[_Segment]) -> None:
    """Draws each loss and its mean over neighbouring frames, within each of the given segments."""
    pieces = [(segment.first, segment.last + 1) for segment in segments] or [(0, len(history))]
    drawn = False
    for key, colour in _LOSSES:
        values = _values(history, key)
        if not np.isfinite(values).any():
            continue
        drawn = True
        axes.plot(values, color=colour, lw=0.5, alpha=0.3)
        label = key
        for first, end in pieces:
            smooth = _smooth(values[first:end], max(1, len(history) // 100))
            axes.plot(np.arange(first, end), smooth, color=colour, lw=1.6, label=label)
            label = None
    if drawn:
        axes.legend(loc='lower right', bbox_to_anchor=(1, 1), ncols=3, frameon=False, fontsize=9)
    else:
        axes.text(0.5, 0.5, 'no loss', transform=axes.transAxes, ha='center', va='center')
    axes.set_ylabel('loss')
    axes.set_xlabel('frame')
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))


def _smooth(values: np.ndarray, half: int) -> np.ndarray:
    """Mean over up to ``half`` frames before and after, without frames that have no value."""
    there = np.isfinite(values)
    kernel = np.ones(2 * half + 1)
    # The middle of 'full': 'same' has the length of the kernel if the kernel is longer.
    middle = slice(half, half + len(values))
    total = np.convolve(np.where(there, values, 0), kernel)[middle]
    count = np.convolve(there.astype(float), kernel)[middle]
    return np.divide(total, count, out=np.full(len(values), math.nan), where=count > 0.5)


def _mark_events(
    top: Axes, bottom: Axes, events: Sequence[Mapping], history: Sequence[Mapping]
) -> None:
    positions = {entry.get('stream_index', i): i for i, entry in enumerate(history)}
    marked = [positions.get(_event_frame(event)) for event in events]
    marked = sorted({position for position in marked if position is not None})
    if not marked:
        return
    top.plot(
        marked,
        np.full(len(marked), 0.03),
        '^',
        color=_EVENT,
        ms=7,
        transform=top.get_xaxis_transform(),
        label='event',
    )
    if len(marked) <= 50:
        for position in marked:
            bottom.axvline(position, color=_EVENT, lw=0.8, alpha=0.6)


def _event_frame(event: Mapping) -> Any:
    return event.get('stream_index', event.get('frame'))
