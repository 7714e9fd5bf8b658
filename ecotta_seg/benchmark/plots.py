"""A benchmark in two pictures: mIoU over the rounds, and mIoU against memory."""

from collections.abc import Sequence
from math import nan
from pathlib import Path
from typing import Any, Callable, Union

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from ..atomic_io import atomic_write

# Far apart also for the colour-blind; a second turn differs by its marker and dashes.
_COLOURS = ('#0072b2', '#d55e00', '#009e73', '#cc79a7', '#56b4e9', '#e69f00', '#7f3c8d', '#4d4d4d')
_MARKERS = ('o', 's', '^', 'D', 'v', 'P', 'X')
_DASHES = ('-', '--', ':')
_MIB = 2**20


def plot_rounds(entries: Sequence[dict], path: Union[str, Path]) -> Path:
    """Draws mIoU over the rounds: a panel for each model and stream, a line for each method.

    Args:
        entries: From ``aggregate``.
        path: The picture to write, whole or not at all.

    Returns:
        The path.

    Raises:
        ValueError: There are no entries.
    """

    def draw(axes: Axes, group: Sequence[dict], styles: dict) -> None:
        for entry in group:
            values = [nan if value is None else value for value in entry['rounds']]
            axes.plot(range(1, len(values) + 1), values, **styles[entry['method']])
        sources = [e['source_mean'] for e in group if e['source_mean'] is not None]
        if sources:
            axes.axhline(sum(sources) / len(sources), color='black', lw=1, ls=(0, (1, 2)))
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))

    return _plot(entries, path, draw, ('round', 'mIoU in percent'), 'source: dotted')


def plot_memory(entries: Sequence[dict], path: Union[str, Path]) -> Path:
    """Draws the mean mIoU against the peak memory of a step, a panel for each model and stream.

    Arguments, result and errors as of ``plot_rounds``.
    """

    def draw(axes: Axes, group: Sequence[dict], styles: dict) -> None:
        for entry in group:
            if entry['peak_bytes'] is None or entry['mean'] is None:
                continue
            style = {**styles[entry['method']], 'ls': '', 'ms': 9}
            axes.plot([entry['peak_bytes'] / _MIB], [entry['mean']], **style)
        known = [e for e in group if e['inference_peak_bytes'] is not None and e['source_mean']]
        if known:
            peak = known[0]['inference_peak_bytes'] / _MIB
            mean = sum(e['source_mean'] for e in known) / len(known)
            axes.plot([peak], [mean], marker='*', ms=13, color='black', ls='')
        axes.margins(0.12)
        axes.set_xlim(left=0)

    labels = ('peak memory of a step above the parameters, MiB', 'mean mIoU in percent')
    return _plot(entries, path, draw, labels, 'source: star')


def _plot(
    entries: Sequence[dict],
    path: Union[str, Path],
    draw: Callable[[Axes, Sequence[dict], dict], None],
    labels: tuple[str, str],
    title: str,
) -> Path:
    """Lays out a panel for each model (down) and stream (across) and has each drawn."""
    styles = _styles(entries)
    models, streams = _unique(entries, 'model'), _unique(entries, 'stream')
    figure = _figure(4.6 * len(streams) + 2, 3.4 * len(models) + 0.6)
    panels = figure.subplots(len(models), len(streams), squeeze=False)
    for row, model in enumerate(models):
        for column, stream in enumerate(streams):
            axes = panels[row][column]
            group = [e for e in entries if e['model'] == model and e['stream'] == stream]
            draw(axes, group, styles)
            axes.set_title(_plain(f'{model}, {stream}'), fontsize=10)
            axes.grid(alpha=0.25, lw=0.5)
            if row == len(models) - 1:
                axes.set_xlabel(labels[0])
            if column == 0:
                axes.set_ylabel(labels[1])
            if not group:
                axes.set_axis_off()
    return _save(figure, panels, title, path)


def _styles(entries: Sequence[dict]) -> dict[str, dict[str, Any]]:
    if not entries:
        raise ValueError('there is nothing to plot: no cell has results')
    styles = {}
    for index, method in enumerate(_unique(entries, 'method')):
        turn = index // len(_COLOURS)
        styles[method] = dict(
            color=_COLOURS[index % len(_COLOURS)],
            marker=_MARKERS[index % len(_MARKERS)],
            ls=_DASHES[turn % len(_DASHES)],
            ms=4,
            lw=1.5,
            label=_plain(method),
        )
    return styles


def _unique(entries: Sequence[dict], key: str) -> list[str]:
    return list(dict.fromkeys(entry[key] for entry in entries))


def _figure(width: float, height: float) -> Figure:
    figure = Figure(figsize=(width, height), layout='constrained')
    FigureCanvasAgg(figure)
    return figure


def _plain(text: str) -> str:
    # matplotlib reads what stands between dollar signs as mathematics.
    return text.replace('$', r'\$')


def _save(figure: Figure, panels, title: str, path: Union[str, Path]) -> Path:
    lines = {}
    for axes in panels.flat:
        for handle, label in zip(*axes.get_legend_handles_labels()):
            lines.setdefault(label, handle)
    if lines:
        figure.legend(
            lines.values(), lines.keys(), loc='outside right center', frameon=False, fontsize=9,
            title=title, title_fontsize=9,
        )  # fmt: skip
    with atomic_write(path) as temporary:
        figure.savefig(temporary, dpi=110)
    return Path(path)
