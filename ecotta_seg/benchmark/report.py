"""Writes a benchmark as Markdown, CSV and JSON."""

import csv
import io
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Optional, Union

from ..config.stream import STREAMS
from ..evaluation.class_areas import mean_of
from ..files.atomic_io import atomic_write
from ..names.printable import printable
from .aggregate import aggregate, source_of
from .paired import DRAWS, with_paired
from .summary import NUMBERS

_MIB = 2**20
# Keys of a paired difference, and their CSV columns.
_PAIRED = {
    'difference': 'difference',
    'low': 'difference_low',
    'high': 'difference_high',
    'frames': 'frames_per_condition',
}


def write_report(
    records: Sequence[Mapping],
    folder: Union[str, Path],
    command: str = '',
    draws: int = DRAWS,
) -> list[Path]:
    """Writes ``benchmark.json``, three CSV files and ``benchmark.md``.

    ``benchmark.csv`` has a row for each run, round and condition. ``cells.csv`` has a row for each
    run. ``paired.csv`` has a row for each method and condition, over all seeds, and one for the
    mean over conditions. Each file is written atomically.

    Args:
        records: The records of ``read_runs``.
        folder: The output folder.
        command: The command of the benchmark, for the head of the page.
        draws: Number of bootstrap draws.

    Returns:
        The paths of the five files.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    records = [with_paired(record, draws) for record in records]
    entries = aggregate(records, draws)
    document = {'command': command, 'cells': records, 'entries': entries}
    texts = {
        'benchmark.json': json.dumps(document, indent=2) + '\n',
        'benchmark.csv': _rounds_csv(records),
        'cells.csv': _runs_csv(records),
        'paired.csv': _paired_csv(entries),
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


def _runs_csv(records: Iterable[Mapping]) -> str:
    output = io.StringIO()
    names = ('model', 'stream', 'method', 'seed', 'views', *NUMBERS, 'code', 'error')
    writer = csv.writer(output, lineterminator='\n')
    writer.writerow([*names, *_PAIRED.values()])
    for record in records:
        mean = (record.get('paired') or {}).get('mean', {})
        writer.writerow([*map(record.get, names), *map(mean.get, _PAIRED)])
    return output.getvalue()


def _paired_csv(entries: Iterable[Mapping]) -> str:
    output = io.StringIO()
    writer = csv.writer(output, lineterminator='\n')
    who = ('model', 'stream', 'method', 'views')
    writer.writerow([*who, 'seeds', 'condition', *_PAIRED.values()])
    for entry in entries:
        seeds = ' '.join(map(str, entry['seeds']))
        for condition, found in _paired_entries(entry).items():
            row = [*(entry[name] for name in who), seeds, condition]
            writer.writerow([*row, *map(found.get, _PAIRED)])
    return output.getvalue()


def _paired_entries(entry: Mapping) -> dict[str, Mapping]:
    """The paired differences by condition, then that of the mean; empty if there are none."""
    paired = entry.get('paired')
    return {**paired['conditions'], 'mean': paired['mean']} if paired else {}


def markdown(records: Sequence[Mapping], entries: Sequence[Mapping], command: str = '') -> str:
    """The text of ``benchmark.md``: for each model and stream, tables of methods and rounds."""
    parts = ['# Benchmark', '']
    if command:
        parts += ['```', command, '```', '']
    parts += [
        'mIoU in percent; means over rounds, conditions and seeds. *±* is the standard deviation '
        'of *mean* over seeds, *worst* is the smallest gain over the source in any condition of '
        'any round, *forgetting* is the loss of the clear day against the source, *events* are '
        'the actions of a guard, a check of frames or the method itself, over all seeds. *s a '
        'frame* is the median step under the load that the machine had; *loop overhead* is the '
        'time that the test loop adds. Peaks do not include the parameters. The source is the '
        'mean over the seeds of all methods. A difference to the source is in percentage points, '
        'with a 95 % interval by a bootstrap over frames (the same frames of both in all rounds '
        'and seeds); *frames* is the number of frames of a condition.',
        '',
        _code_line(records),
        '',
    ]
    groups: dict[tuple, list[Mapping]] = {}
    for model in dict.fromkeys(entry['model'] for entry in entries):
        own = [entry for entry in entries if entry['model'] == model]
        for entry in sorted(own, key=lambda entry: STREAMS.index(entry['stream'])):
            groups.setdefault((model, entry['stream']), []).append(entry)
    conditions: dict[str, None] = {}
    for (model, stream), group in groups.items():
        group = sorted(group, key=lambda entry: -(entry['mean'] or 0.0))
        # A mixed stream has its conditions in any order; all tables use the first table's order.
        conditions.update(dict.fromkeys(n for entry in group for n in entry['conditions']))
        parts += [f'## {_cell(model)}, {stream} stream', '']
        parts += [*_methods_table(group, conditions), '']
        if any(entry.get('paired') for entry in group):
            parts += ['### Difference to the source on the same frames', '']
            parts += [*_paired_table(group, conditions), '']
        parts += ['### mIoU in each round', '']
        parts += [*_rounds_table(group), '', '### mIoU in each condition and round', '']
        parts += [*_conditions_table(group, conditions), '']
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


def _code_line(records: Iterable[Mapping]) -> str:
    counts = Counter(r.get('code') or 'not recorded' for r in records if r['error'] is None)
    found = ', '.join(f'{_cell(code)}: {count}' for code, count in counts.most_common())
    return f'Runs by version of ecotta_seg and digest of its files (`cells.csv` has each): {found}.'


def _methods_table(group: Sequence[Mapping], conditions: Iterable[str]) -> list[str]:
    names = [n for n in conditions if any(n in entry['conditions'] for entry in group)]
    head = ['method', 'views', 'seeds', *names, 'mean', '±', 'round 1', 'last round']
    head += ['last − first', 'worst', 'clear day', 'forgetting', 'events', 's a frame']
    head += ['loop overhead', 'peak MiB']
    rows = [_source_row(group, names)]
    for entry in group:
        means = [_number(mean_of(entry['conditions'].get(name, []))) for name in names]
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
                ', '.join(f'{n} {_cell(kind)}' for kind, n in entry['event_kinds'].items()),
                _number(entry['seconds'], 3),
                _percent(entry['harness_share']),
                _mib(entry['peak_bytes']),
            ]
        )
    return markdown_table(head, rows)


def _source_row(group: Sequence[Mapping], names: Sequence[str]) -> list[str]:
    source = source_of(group)
    scores = [_number(source['source_conditions'].get(name)) for name in names]
    mean, clear = _number(source['source_mean'], 2), _number(source['clear_source'])
    times = [entry['source_seconds'] for entry in group if entry['source_seconds'] is not None]
    seconds = _number(median(times) if times else None, 3)
    peak = _mib(mean_of([entry['inference_peak_bytes'] for entry in group]))
    seeds = str(len({seed for entry in group for seed in entry['seeds']}))
    row = ['*source*', '', seeds, *scores, mean, '', '', '', '', '', clear, '', '', seconds, '']
    return [*row, peak]


def _paired_table(group: Sequence[Mapping], conditions: Iterable[str]) -> list[str]:
    found = {entry['method']: _paired_entries(entry) for entry in group}
    names = [n for n in (*conditions, 'mean') if any(n in paired for paired in found.values())]
    frames = {n: paired[n]['frames'] for paired in found.values() for n in names if n in paired}
    rows = [['*frames*', *(f'{frames[name]:.4g}' for name in names)]]
    for method, paired in found.items():
        rows.append([_cell(method), *(_interval(paired.get(name)) for name in names)])
    return markdown_table(['method', *names], rows)


def _interval(paired: Optional[Mapping]) -> str:
    if paired is None:
        return ''
    difference, low, high = (_number(paired[k], 2, True) for k in ('difference', 'low', 'high'))
    return f'{difference} ({low} to {high})'


def _rounds_table(group: Sequence[Mapping]) -> list[str]:
    last = max(len(entry['rounds']) for entry in group)
    rows = [
        [_cell(entry['method']), *(_number(value) for value in _filled(entry['rounds'], last))]
        for entry in group
    ]
    return markdown_table(['method', *map(str, range(1, last + 1))], rows)


def _conditions_table(group: Sequence[Mapping], conditions: Iterable[str]) -> list[str]:
    last = max(len(entry['rounds']) for entry in group)
    rows = []
    for entry in group:
        for name in conditions:
            values = entry['conditions'].get(name)
            if values is None:
                continue
            source = _number(entry['source_conditions'].get(name))
            scores = [_number(value) for value in _filled(values, last)]
            rows.append([_cell(entry['method']), _cell(name), source, *scores])
    return markdown_table(['method', 'condition', 'source', *map(str, range(1, last + 1))], rows)


def markdown_table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """The lines of a table in Markdown."""
    lines = [head, ['---'] * len(head), *rows]
    return ['| ' + ' | '.join(line) + ' |' for line in lines]


def _cell(text: str) -> str:
    return printable(str(text)).replace('|', '\\|')


def _filled(values: Sequence[Optional[float]], length: int) -> list[Optional[float]]:
    return [*values, *[None] * (length - len(values))]


def _number(value: Optional[float], digits: int = 1, signed: bool = False) -> str:
    if value is None:
        return ''
    return f'{value:{"+" if signed else ""}.{digits}f}'


def _percent(value: Optional[float]) -> str:
    return '' if value is None else f'{value:+.1%}'


def _mib(value: Optional[float]) -> str:
    return '' if value is None else f'{value / _MIB:.1f}'
