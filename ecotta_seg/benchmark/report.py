"""A benchmark as Markdown, CSV and JSON."""

import csv
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Optional, Union

from ..atomic_io import atomic_write
from ..evaluation.printable import printable
from .summary import NUMBERS, aggregate

_MIB = 2**20


def write_report(
    records: Sequence[Mapping], folder: Union[str, Path], command: str = ''
) -> list[Path]:
    """Writes ``benchmark.json``, ``benchmark.csv``, ``cells.csv`` and ``benchmark.md``.

    ``benchmark.csv`` has a row for each condition of each round of each cell, ``cells.csv`` one
    for each cell. Each file is written whole or not at all.

    Args:
        records: From ``read_cells``.
        folder: Where to.
        command: How it was made, for the head of the page.

    Returns:
        The paths.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    entries = aggregate(records)
    document = {'command': command, 'cells': list(records), 'entries': entries}
    texts = {
        'benchmark.json': json.dumps(document, indent=2) + '\n',
        'benchmark.csv': _rounds_csv(records),
        'cells.csv': _cells_csv(records),
        'benchmark.md': markdown(records, entries, command),
    }
    for name, text in texts.items():
        with atomic_write(folder / name) as temporary:
            temporary.write_text(text, encoding='utf-8')
    return [folder / name for name in texts]


def _rounds_csv(records: Iterable[Mapping]) -> str:
    output = io.StringIO()
    writer = csv.writer(output, lineterminator='\n')
    who = ('model', 'stream', 'method', 'seed', 'views')
    writer.writerow([*who, 'round', 'condition', 'mIoU', 'source_mIoU'])
    for record in records:
        if record['error'] is not None:
            continue
        for condition, values in record['conditions'].items():
            source = record['source_conditions'].get(condition)
            for number, value in enumerate(values, start=1):
                writer.writerow([*(record[n] for n in who), number, condition, value, source])
    return output.getvalue()


def _cells_csv(records: Iterable[Mapping]) -> str:
    output = io.StringIO()
    names = ('model', 'stream', 'method', 'seed', 'views', *NUMBERS, 'error')
    writer = csv.writer(output, lineterminator='\n')
    writer.writerow(names)
    writer.writerows([record.get(name) for name in names] for record in records)
    return output.getvalue()


def markdown(records: Sequence[Mapping], entries: Sequence[Mapping], command: str = '') -> str:
    """The page: for each model and stream a table of methods, then rounds and conditions."""
    parts = ['# Benchmark', '']
    if command:
        parts += ['```', command, '```', '']
    parts += [
        'mIoU in percent; means over rounds, conditions and seeds. *worst* is the least that the '
        'method is above the source in any condition of any round, *forgetting* what the clear '
        'day loses against the source, *harness* what the loop around a step adds to its time. '
        'Peaks are above the parameters.',
        '',
    ]
    groups: dict[tuple, list[Mapping]] = {}
    for entry in entries:
        groups.setdefault((entry['model'], entry['stream']), []).append(entry)
    for (model, stream), group in groups.items():
        group = sorted(group, key=lambda entry: -(entry['mean'] or 0.0))
        parts += [f'## {_cell(model)}, {stream} stream', '']
        parts += [*_methods_table(group), '', '### mIoU in each round', '']
        parts += [*_rounds_table(group), '', '### mIoU in each condition and round', '']
        parts += [*_conditions_table(group), '']
    failed = [record for record in records if record['error'] is not None]
    if failed:
        parts += ['## Not in the tables', '']
        parts += [
            f'- {_cell(r["model"])}, {_cell(r["method"])}, {r["stream"]}, seed {r["seed"]}: '
            f'{_cell(r["error"])}'
            for r in failed
        ]
        parts.append('')
    return '\n'.join(parts)


def _methods_table(group: Sequence[Mapping]) -> list[str]:
    names = list(dict.fromkeys(name for entry in group for name in entry['conditions']))
    head = ['method', 'views', 'seeds', *names, 'mean', '±', 'round 1', 'last round']
    head += ['last − first', 'worst', 'clear day', 'forgetting', 's a frame', 'harness', 'peak MiB']
    rows = [_source_row(group, names)]
    for entry in group:
        means = [_number(_average(entry['conditions'].get(name, []))) for name in names]
        rows.append(
            [
                _cell(entry['method']),
                str(entry['views'] or ''),
                str(len(entry['seeds'])),
                *means,
                _number(entry['mean'], 2),
                _number(entry['spread'], 2),
                *(_number(entry[key]) for key in ('first_round', 'last_round')),
                *(_number(entry[k], 2, True) for k in ('last_minus_first', 'worst_against_source')),
                _number(entry['clear_after']),
                _number(entry['forgetting'], 2, True),
                _number(entry['seconds'], 3),
                _percent(entry['harness_share']),
                _mib(entry['peak_bytes']),
            ]
        )
    return _table(head, rows)


def _source_row(group: Sequence[Mapping], names: Sequence[str]) -> list[str]:
    """The untouched source, as it was measured beside the methods."""
    scores = [
        _number(_average([entry['source_conditions'].get(name) for entry in group]))
        for name in names
    ]

    def over(key: str) -> Optional[float]:
        return _average([entry[key] for entry in group])

    mean, clear = _number(over('source_mean'), 2), _number(over('clear_source'))
    seconds, peak = _number(over('source_seconds'), 3), _mib(over('inference_peak_bytes'))
    return ['*source*', '', '', *scores, mean, '', '', '', '', '', clear, '', seconds, '', peak]


def _rounds_table(group: Sequence[Mapping]) -> list[str]:
    last = max(len(entry['rounds']) for entry in group)
    rows = [
        [_cell(entry['method']), *(_number(value) for value in _filled(entry['rounds'], last))]
        for entry in group
    ]
    return _table(['method', *map(str, range(1, last + 1))], rows)


def _conditions_table(group: Sequence[Mapping]) -> list[str]:
    last = max(len(entry['rounds']) for entry in group)
    rows = []
    for entry in group:
        for name, values in entry['conditions'].items():
            source = _number(entry['source_conditions'].get(name))
            scores = [_number(value) for value in _filled(values, last)]
            rows.append([_cell(entry['method']), _cell(name), source, *scores])
    return _table(['method', 'condition', 'source', *map(str, range(1, last + 1))], rows)


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    lines = [head, ['---'] * len(head), *rows]
    return ['| ' + ' | '.join(line) + ' |' for line in lines]


def _cell(text: str) -> str:
    return printable(str(text)).replace('|', '\\|')


def _filled(values: Sequence[Optional[float]], length: int) -> list[Optional[float]]:
    return [*values, *[None] * (length - len(values))]


def _average(values: Sequence[Optional[float]]) -> Optional[float]:
    there = [value for value in values if value is not None]
    return sum(there) / len(there) if there else None


def _number(value: Optional[float], digits: int = 1, signed: bool = False) -> str:
    if value is None:
        return ''
    return f'{value:{"+" if signed else ""}.{digits}f}'


def _percent(value: Optional[float]) -> str:
    return '' if value is None else f'{value:+.1%}'


def _mib(value: Optional[float]) -> str:
    return '' if value is None else f'{value / _MIB:.1f}'
