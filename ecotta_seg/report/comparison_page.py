"""Shows a comparison of runs as one page, and as tables on the screen."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Optional, Union

from rich import box
from rich.console import Console
from rich.table import Table as ScreenTable
from rich.text import Text

from ..evaluation.table import MIB, condition_score
from ..names.printable import printable
from .comparison import Comparison, mean_score
from .page import write_page
from .tables import NOTHING, Cell, Table, number, percent

_STYLES = {'gain': 'green', 'loss': 'red'}


def write_comparison(comparison: Comparison, path: Union[str, Path]) -> Path:
    """Writes the page ``comparison.html`` atomically.

    Args:
        comparison: From ``compare_runs``.
        path: The file.

    Returns:
        The path.

    Raises:
        OSError: The page cannot be written.
    """
    return write_page(
        path,
        'comparison.html',
        title=f'Comparison of {len(comparison.names)} runs',
        first=comparison.names[0],
        scores=score_table(comparison),
        differences=difference_table(comparison),
        rounds=round_table(comparison),
        costs=cost_table(comparison),
        settings=settings_table(comparison),
        notes=comparison.notes,
    )


def print_comparison(comparison: Comparison, console: Optional[Console] = None) -> None:
    """Prints the tables of scores, differences and costs to ``console``, or to the terminal."""
    if console is None:
        console = Console()
        if not console.is_terminal:
            console = Console(width=120)
    for table in (score_table(comparison), difference_table(comparison), cost_table(comparison)):
        console.print(_on_screen(table))
        console.print()
    console.print(Text('\n'.join(map(printable, comparison.notes)), style='dim'))


def _on_screen(table: Table) -> ScreenTable:
    shown = ScreenTable(
        title=Text(printable(table.title), style='bold'), title_justify='left',
        box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False,
    )  # fmt: skip
    for index, name in enumerate(table.head):
        shown.add_column(
            Text(printable(name)), justify='right' if index else 'left', overflow='fold'
        )
    for name, cells in table.rows:
        texts = [Text(printable(cell.text), style=_STYLES.get(cell.kind, '')) for cell in cells]
        shown.add_row(Text(printable(name)), *texts)
    return shown


def score_table(comparison: Comparison) -> Table:
    """Builds the table of mIoU by condition, over the rounds that all runs have, and clear day."""
    conditions = comparison.runs[0].document['conditions']
    table = Table(
        'mIoU in percent', ['', *conditions, 'mean', 'clear day', 'forgetting'],
    )  # fmt: skip
    for name, source, clear in _sources(comparison):
        cells = [percent(condition_score(source, condition)) for condition in conditions]
        table.add(name, [*cells, percent(source['mIoU']), percent(clear), Cell('')])
    for name, run in zip(comparison.names, comparison.runs):
        source, clear = run.document['source'], run.document['clear']
        cells = [
            percent(
                mean_score(run, condition, comparison.rounds), condition_score(source, condition)
            )
            for condition in conditions
        ]
        cells.append(percent(mean_score(run, None, comparison.rounds), source['mIoU']))
        cells.append(percent(clear['after'], clear['source']))
        lost = None
        if clear['before'] is not None and clear['after'] is not None:
            lost = clear['before'] - clear['after']
        table.add(name, [*cells, number(lost, 2)])
    return table


def _sources(comparison: Comparison) -> list[tuple[str, Mapping, Optional[float]]]:
    """Name, scores and clear-day mIoU of each run's source; one entry if all scores are equal."""
    found: list[tuple[str, Mapping, Optional[float]]] = []
    for name, run in zip(comparison.names, comparison.runs):
        source = run.document['source']
        if source['mIoU'] is not None:
            found.append((f'source of {name}', source, run.document['clear']['source']))
    distinct = {(source['mIoU'], clear) for _, source, clear in found}
    return [('source', *found[0][1:])] if len(distinct) == 1 else found


def difference_table(comparison: Comparison) -> Table:
    """Builds the table of the differences to the first run, with their intervals."""
    conditions = comparison.runs[0].document['conditions']
    table = Table(f'Difference to {comparison.names[0]} in points', ['', *conditions, 'mean'])
    for name, found in zip(comparison.names[1:], comparison.differences):
        entries = [found['conditions'].get(condition) for condition in conditions]
        table.add(name, [_interval(entry) for entry in [*entries, found['mean']]])
    return table


def _interval(entry: Optional[Mapping]) -> Cell:
    if entry is None or entry['difference'] is None:
        return Cell(NOTHING)
    difference, low, high = entry['difference'], entry['low'], entry['high']
    if low is None:
        return Cell(f'{difference:+.2f}')
    # A gain or a loss only if the interval excludes 0.
    kind = 'gain' if low > 0 else 'loss' if high < 0 else ''
    return Cell(f'{difference:+.2f} ({low:+.2f} to {high:+.2f})', kind)


def round_table(comparison: Comparison) -> Table:
    """Builds the table of mIoU by round and condition, with a column for each run."""
    conditions = comparison.runs[0].document['conditions']
    by_run = [
        {entry['round']: entry for entry in run.document['rounds']} for run in comparison.runs
    ]
    table = Table('mIoU in percent by round', ['', *comparison.names])
    for round_number in sorted({key for entries in by_run for key in entries}):
        for condition in [*conditions, None]:
            scores = [_round_score(entries.get(round_number), condition) for entries in by_run]
            cells = [percent(scores[0]), *(percent(score, scores[0]) for score in scores[1:])]
            table.add(f'round {round_number}, {condition or "mean"}', cells, condition is None)
    return table


def _round_score(entry: Optional[Mapping], condition: Optional[str]) -> Optional[float]:
    if entry is None:
        return None
    return entry['mIoU'] if condition is None else condition_score(entry, condition)


def cost_table(comparison: Comparison) -> Table:
    """Builds the table of the memory and time of each run."""
    head = ['', 'peak MiB', 'to inference', 'total MiB', 'seconds a frame', 'to inference']
    table = Table('Memory and time', head)
    for name, run in zip(comparison.names, comparison.runs):
        memory, seconds = run.document['memory'], run.document['seconds_per_frame']
        peak, inference = memory['adaptation_peak_bytes'], memory['inference_peak_bytes']
        step, stock = seconds['adaptation'], seconds['inference']
        table.add(
            name,
            [
                _mib(peak), _ratio(peak, inference), _mib(memory.get('total_bytes')),
                number(step, 3), _ratio(step, stock),
            ],
        )  # fmt: skip
    return table


def _mib(value: Optional[float]) -> Cell:
    return number(None if value is None else value / MIB, 1)


def _ratio(value: Optional[float], than: Optional[float]) -> Cell:
    return number(value / than if value is not None and than else None, 2, 'x')


def settings_table(comparison: Comparison) -> Table:
    """Builds the table of the settings of each run."""
    head = ['', 'method', 'rounds', 'seed', 'checkpoint', 'checkpoint digest', 'ecotta_seg']
    table = Table('Settings', head)
    for name, run in zip(comparison.names, comparison.runs):
        record = run.record
        texts: Sequence = (
            run.document['method'], len(run.document['rounds']), record['seed'],
            record['checkpoint'], record['checkpoint_digest'], record['versions'].get('ecotta_seg'),
        )  # fmt: skip
        table.add(name, [Cell(NOTHING if text is None else str(text)) for text in texts])
    return table
