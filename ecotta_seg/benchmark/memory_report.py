"""Prints the memory benchmark as tables, and writes it as a JSON document."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Optional, Union

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from ..files.atomic_io import atomic_write_text
from ..memory import MIB
from ..names.printable import printable

SCHEMA = 1
_NOTHING = '–'


def write_memory_json(document: dict, path: Union[str, Path]) -> Path:
    """Writes the results of a memory benchmark atomically.

    Args:
        document: A dictionary with ``rows`` (the result of ``measure_rows``), ``sweep`` (the result
            of ``sweep``) and the settings of the measurement.
        path: The file.

    Raises:
        OSError: The file cannot be written.
    """
    text = json.dumps({'schema': SCHEMA, **document}, indent=2, allow_nan=False)
    atomic_write_text(path, text + '\n')
    return Path(path)


def print_memory_tables(document: dict, console: Optional[Console] = None) -> None:
    """Prints the tables of the rows, the sweep over frame sizes and the comparison, and notes.

    If the sweep or the comparison was not measured, its table is left out.
    """
    console = console or Console()
    console.print(_rows_table(document))
    notes = _notes(document['rows'])
    if document.get('sweep'):
        console.print(_sweep_table(document['sweep']))
        notes.append('The sweep is predicted, by steps on tensors without data.')
    if document.get('comparison'):
        console.print(_comparison_table(document['comparison']))
        notes += _comparison_notes(document['comparison'])
    for note in notes:
        console.print(Text(note, style='dim'))


def _table(title: str, *columns: str) -> Table:
    table = Table(
        title=Text(title, style='bold'), title_justify='left', box=box.SIMPLE_HEAD, pad_edge=False
    )
    for index, name in enumerate(columns):
        table.add_column(Text(name), justify='right' if index else 'left', no_wrap=True)
    return table


def _rows_table(document: dict) -> Table:
    height, width = document['size']
    table = _table(
        f'{printable(document["config"])}, a step on {height} x {width} (MiB, seconds)',
        *('', 'peak', 'x inf.', 'predicted', 'in all', 'x inf.', 's', 'x inf.'),
    )
    for row in document['rows']:
        table.add_row(
            Text(printable(row['name'])),
            _mib(row['peak_bytes']),
            _times(row['peak_to_inference']),
            _mib(row['predicted_peak_bytes']),
            _mib(row['total_bytes']),
            _times(row['total_to_inference']),
            _NOTHING if row['seconds'] is None else f'{row["seconds"]:.3f}',
            _times(row['seconds_to_inference']),
        )
    return table


def _sweep_table(rows: Sequence[dict]) -> Table:
    budgets = list(rows[0]['budgets'])
    table = _table(
        'Predicted peaks, MiB',
        *('frame', 'K', 'adapters', 'inference', 'fastest', *budgets, 'smallest', 'x inf.'),
    )
    for row in rows:
        table.add_row(
            f'{row["height"]}x{row["width"]}',
            str(row['num_parts']),
            _mib(row['adapters_bytes']),
            _mib(row['inference_peak_bytes']),
            _mib(row['fastest_peak_bytes']),
            *(_mib(row['budgets'][budget]) for budget in budgets),
            _mib(row['smallest_peak_bytes']),
            _times(row['smallest_peak_bytes'] / row['inference_peak_bytes']),
        )
    return table


def _comparison_table(rows: Sequence[dict]) -> Table:
    table = _table(
        "EcoTTA's step by PyTorch and by this package (MiB, seconds)",
        *('', 'peak', 'x inf.', 's', 'x inf.', 'compile s', 'gradient error'),
    )
    inference = rows[0]['peak_bytes']
    for row in rows:
        measured = row['peak_bytes'] is not None
        table.add_row(
            Text(printable(row['name'])),
            _mib(row['peak_bytes']),
            _times(row['peak_bytes'] / inference if measured else None),
            f'{row["seconds"]:.3f}' if measured else _NOTHING,
            _times(row['seconds'] / row['inference_seconds'] if measured else None),
            _NOTHING if row['compile_seconds'] is None else f'{row["compile_seconds"]:.0f}',
            _NOTHING if row['gradient_error'] is None else f'{row["gradient_error"]:.0e}',
        )
    return table


def _comparison_notes(rows: Sequence[dict]) -> list[str]:
    notes = [
        "The comparison's peaks are those of torch's allocator in a step, with the buffers of "
        'kernels and without what is held between two steps. Gradient error: the largest '
        'difference to float64, relative to the largest entry of the gradient; a row whose '
        'optimizer runs in the backward has none.'
    ]
    return notes + [
        f'{printable(row["name"])}: {printable(row["error"])}' for row in rows if row['error']
    ]


def _mib(value: Optional[int]) -> str:
    return _NOTHING if value is None else f'{value / MIB:.1f}'


def _times(value: Optional[float]) -> str:
    return _NOTHING if value is None else f'{value:.2f}x'


def _notes(rows: Sequence[dict]) -> list[str]:
    notes = [
        "Peaks include gradients and the optimizer's state, but not parameters and adapters; in "
        'all: with parameters, adapters and kept copies. x inf.: relative to stock inference; '
        'times are medians, each method in turn with stock inference.'
    ]
    for row in rows:
        if row['error']:
            notes.append(f'{printable(row["name"])}: {printable(row["error"])}')
        if row['fallbacks']:
            names = ', '.join(map(printable, row['fallbacks']))
            notes.append(f'{printable(row["name"])}: run by lean autograd: {names}')
        if row['confident_fraction'] == 0:
            notes.append(
                f'{printable(row["name"])} found no confident pixel: plain autograd then skips '
                "the entropy's backward, and its row is too low"
            )
    return notes
