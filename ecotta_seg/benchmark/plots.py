"""Draws two plots of a benchmark: mIoU over the rounds, and mIoU against memory."""

from collections.abc import Sequence
from math import nan
from pathlib import Path
from typing import Any, Callable, Union

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from ..config.stream import STREAMS
from ..files.atomic_io import atomic_write
from .aggregate import source_of

# Colour-blind readers can distinguish these colours. If they are used a second time, dashes and
# hollow markers differ.
_COLOURS = ('#0072b2', '#d55e00', '#009e73', '#cc79a7', '#56b4e9', '#e69f00', '#7f3c8d', '#4d4d4d')
_MARKERS = ('o', 's', '^', 'D', 'v', 'P', 'X')
_DASHES = ('-', '--', ':')
# Only this many methods are labelled, those with the best means: readers cannot distinguish more.
_MOST_LABELLED = 7
_OTHER = dict(color='0.8', marker='.', ls='-', mfc='0.8', ms=4, lw=0.8, zorder=1)
_MIB = 2**20


def plot_rounds(entries: Sequence[dict], path: Union[str, Path]) -> Path:
    """Draws mIoU over the rounds: a panel for each model and stream, a line for each method.

    Args:
        entries: The entries of ``aggregate``.
        path: The picture to write (atomically).

    Returns:
        The path.

    Raises:
        ValueError: There are no entries.
    """

    def draw(axes: Axes, group: Sequence[dict], styles: dict) -> bool:
        last = max(len(entry['rounds']) for entry in group)
        if all(value is None for entry in group for value in entry['rounds']):
            return False
        for entry in group:
            values = [nan if value is None else value for value in entry['rounds']]
            axes.plot(range(1, len(values) + 1), values, **styles[entry['method']])
        source = source_of(group)
        for name, colour, dashes in (
            ('source_mean', 'black', (0, (1, 2))),
            ('batch_statistics', '0.55', (0, (5, 2, 1, 2))),
        ):
            if source[name] is not None:
                axes.axhline(source[name], color=colour, lw=1.2, ls=dashes, zorder=1)
        # Without limits, matplotlib would draw a single round on an axis from 0.96 to 1.04.
        axes.set_xlim(0.5, last + 0.5)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        return True

    labels = ('round', 'mIoU in percent')
    return _plot(entries, path, draw, labels, 'source: dotted\nbatch statistics: grey')


def plot_memory(entries: Sequence[dict], path: Union[str, Path]) -> Path:
    """Draws the mean mIoU against the peak memory of a step, a panel for each model and stream.

    Arguments, result and errors as of ``plot_rounds``.
    """

    def draw(axes: Axes, group: Sequence[dict], styles: dict) -> bool:
        if all(entry['peak_bytes'] is None or entry['mean'] is None for entry in group):
            return False
        for entry in group:
            if entry['peak_bytes'] is None or entry['mean'] is None:
                continue
            style = {**styles[entry['method']], 'ls': '', 'ms': 9}
            # Hollow markers are drawn on top, so that two markers at the same place are visible.
            hollow = style['mfc'] == 'none'
            style['mew'] = 2 if hollow else 0.5
            place = [entry['peak_bytes'] / _MIB], [entry['mean']]
            style.setdefault('zorder', 3 if hollow else 2)
            axes.plot(*place, **style)
        peaks = [e['inference_peak_bytes'] for e in group if e['inference_peak_bytes'] is not None]
        mean = source_of(group)['source_mean']
        if peaks and mean is not None:
            axes.plot([peaks[0] / _MIB], [mean], marker='*', ms=13, color='black', ls='')
        axes.margins(0.12)
        axes.set_xlim(left=0)
        return True

    labels = ('peak memory of a step above the parameters, MiB', 'mean mIoU in percent')
    return _plot(entries, path, draw, labels, 'source: star')


def _plot(
    entries: Sequence[dict],
    path: Union[str, Path],
    draw: Callable[[Axes, Sequence[dict], dict], bool],
    labels: tuple[str, str],
    title: str,
) -> Path:
    """Lays out and draws a panel for each model (rows) and stream (columns).

    A panel without content is left out.
    """
    styles = _styles(entries)
    others = sum('label' not in style for style in styles.values())
    if others:
        title += f'\n{others} other methods: light grey'
    models, streams = _unique(entries, 'model'), _unique(entries, 'stream')
    streams.sort(key=STREAMS.index)
    figure = _figure(4.6 * len(streams) + 2, 3.4 * len(models) + 0.6)
    panels = figure.subplots(len(models), len(streams), squeeze=False)
    for row, model in enumerate(models):
        for column, stream in enumerate(streams):
            axes = panels[row][column]
            group = [e for e in entries if e['model'] == model and e['stream'] == stream]
            if not group or not draw(axes, group, styles):
                axes.remove()
                continue
            axes.set_title(_plain(f'{model}, {stream}'), fontsize=10)
            axes.grid(alpha=0.25, lw=0.5)
            below = [
                e for e in entries if e['stream'] == stream and e['model'] in models[row + 1 :]
            ]
            if not below:
                axes.set_xlabel(labels[0])
            if column == 0:
                axes.set_ylabel(labels[1])
    if not figure.axes:
        figure.text(0.5, 0.5, 'nothing was measured', ha='center', va='center')
    return _save(figure, title, path)


def _styles(entries: Sequence[dict]) -> dict[str, dict[str, Any]]:
    if not entries:
        raise ValueError('there is nothing to plot: no run has results')
    methods = _unique(entries, 'method')
    best = sorted(methods, key=lambda method: -_best_mean(entries, method))[:_MOST_LABELLED]
    styles = {method: dict(_OTHER) for method in methods if method not in best}
    for index, method in enumerate(method for method in methods if method in best):
        turn = index // len(_COLOURS)
        styles[method] = dict(
            color=_COLOURS[index % len(_COLOURS)],
            marker=_MARKERS[index % len(_MARKERS)],
            ls=_DASHES[turn % len(_DASHES)],
            mfc='none' if turn % 2 else _COLOURS[index % len(_COLOURS)],
            ms=5,
            lw=1.5,
            label=_plain(method),
        )
    return styles


def _best_mean(entries: Sequence[dict], method: str) -> float:
    means = [entry['mean'] for entry in entries if entry['method'] == method]
    return max((mean for mean in means if mean is not None), default=0.0)


def _unique(entries: Sequence[dict], key: str) -> list[str]:
    return list(dict.fromkeys(entry[key] for entry in entries))


def _figure(width: float, height: float) -> Figure:
    figure = Figure(figsize=(width, height), layout='constrained')
    FigureCanvasAgg(figure)
    return figure


def _plain(text: str) -> str:
    # matplotlib interprets text between dollar signs as mathematics.
    return text.replace('$', r'\$')


def _save(figure: Figure, title: str, path: Union[str, Path]) -> Path:
    lines = {}
    for axes in figure.axes:
        for handle, label in zip(*axes.get_legend_handles_labels()):
            lines.setdefault(label, handle)
    if lines:
        figure.legend(
            lines.values(), lines.keys(), loc='outside right center', frameon=False, fontsize=9,
            title=title, title_fontsize=9, alignment='left',
        )  # fmt: skip
    with atomic_write(path) as temporary:
        figure.savefig(temporary, dpi=110)
    return Path(path)
