"""What a cell's results come to, and what several seeds come to together."""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from statistics import mean, stdev
from typing import Any, Optional, Union

from ..evaluation.results import load_results
from .cells import CELL_FILE, Cell, cell_folder, settings_digest

# What is averaged over seeds.
NUMBERS = (
    'mean',
    'first_round',
    'last_round',
    'last_minus_first',
    'worst_against_source',
    'source_mean',
    'clear_source',
    'clear_before',
    'clear_after',
    'forgetting',
    'seconds',
    'source_seconds',
    'harness_share',
    'peak_bytes',
    'inference_peak_bytes',
    'events',
)


def summarise(document: Mapping) -> dict:
    """The numbers of one run.

    Args:
        document: A ``results.json``.

    Returns:
        ``rounds`` (mIoU by round), ``conditions`` (a list of mIoU by round, by condition),
        ``source_conditions`` and the numbers in ``NUMBERS``: percent, seconds and bytes a frame,
        None where not measured. ``forgetting`` is the source's mIoU on the clear day minus the
        adapted model's after the stream; ``worst_against_source`` the least of what the method
        is above the source, over conditions and rounds; ``harness_share`` what the test loop adds
        to a step, as a share of it.
    """
    rounds = document['rounds']
    names = document['conditions']
    conditions = {
        name: [(entry['conditions'].get(name) or {}).get('mIoU') for entry in rounds]
        for name in names
    }
    source = {name: scores['mIoU'] for name, scores in document['source']['conditions'].items()}
    above = [
        value - source[name]
        for name, values in conditions.items()
        for value in values
        if value is not None and source.get(name) is not None
    ]
    per_round = [entry['mIoU'] for entry in rounds]
    first, last = (per_round[0], per_round[-1]) if per_round else (None, None)
    clear = document['clear']
    return {
        'views': document.get('views'),
        'rounds': per_round,
        'conditions': conditions,
        'source_conditions': source,
        'mean': document['mean_mIoU'],
        'first_round': first,
        'last_round': last,
        'last_minus_first': _difference(last, first),
        'worst_against_source': min(above) if above else None,
        'source_mean': document['source']['mIoU'],
        'clear_source': clear['source'],
        'clear_before': clear['before'],
        'clear_after': clear['after'],
        'forgetting': _difference(clear['source'], clear['after']),
        'seconds': document['seconds_per_frame']['adaptation'],
        'source_seconds': document['seconds_per_frame']['inference'],
        'harness_share': document['seconds_per_frame'].get('harness_share'),
        'peak_bytes': document['memory']['adaptation_peak_bytes'],
        'inference_peak_bytes': document['memory']['inference_peak_bytes'],
        'events': len(document['events']),
    }


def _difference(first: Optional[float], second: Optional[float]) -> Optional[float]:
    return None if first is None or second is None else first - second


def read_cells(
    cells: Iterable[Cell], errors: Mapping[Cell, str], work_dir: Union[str, Path]
) -> list[dict]:
    """A record for each cell: who it is, ``error`` (or None) and what ``summarise`` gives.

    Args:
        cells: The cells.
        errors: Of those that failed.
        work_dir: Of the benchmark.
    """
    records = []
    for cell in cells:
        record = {
            'model': cell.model.name,
            'method': cell.method.label,
            'stream': cell.stream,
            'seed': cell.seed,
            'asked_views': cell.views,
            'folder': str(cell_folder(cell, work_dir)),
        }
        records.append(_filled(record, errors.get(cell)))
    return records


def collect_cells(work_dir: Union[str, Path], known: Sequence[Mapping]) -> list[dict]:
    """Records of the finished cells in a work dir that are not among ``known`` ones."""
    folders = {record['folder'] for record in known}
    records = []
    for path in sorted(Path(work_dir, 'cells').rglob(CELL_FILE)):
        if str(path.parent) in folders or any(p.name.endswith('.before') for p in path.parents):
            continue
        try:
            settings = json.loads(path.read_text(encoding='utf-8'))
            record = {
                'model': settings['model']['name'],
                'method': settings['method']['label'],
                'stream': settings['stream'],
                'seed': settings['seed'],
                'asked_views': settings['views'],
                'folder': str(path.parent),
            }
        except (OSError, ValueError, KeyError, TypeError):
            continue
        record = _filled(record, None)
        if record['error'] is None:
            records.append(record)
    return records


def _filled(record: dict, error: Optional[str]) -> dict:
    if error is None:
        try:
            found = summarise(load_results(record['folder']))
            return {**record, 'error': None, 'settings': _settings(record['folder']), **found}
        except FileNotFoundError:
            error = 'not run yet'
        except ValueError as problem:
            error = str(problem)
    return {**record, 'error': error}


def _settings(folder: str) -> Optional[str]:
    """A digest of all that a cell was run with but its seed; cells that are averaged share it."""
    try:
        settings = dict(json.loads(Path(folder, CELL_FILE).read_text(encoding='utf-8')), seed=None)
    except (OSError, ValueError, TypeError):
        return None
    return settings_digest(settings)


def aggregate(records: Iterable[Mapping]) -> list[dict]:
    """One entry for each model, stream, method and number of views, the mean over its seeds.

    Cells of other rounds, options, checkpoint or adapters are entries of their own.
    The worst against the source is the worst over the seeds as well.

    Args:
        records: From ``read_cells``; those with an ``error`` are left out.

    Returns:
        Entries as the records', with ``seeds`` (a list) and ``spread`` (the standard deviation of
        ``mean`` over seeds, None for one).
    """
    groups: dict[tuple, list[Mapping]] = {}
    for record in records:
        if record['error'] is None:
            names = ('model', 'stream', 'method', 'asked_views')
            key = (*(record[name] for name in names), record.get('settings'))
            groups.setdefault(key, []).append(record)
    entries = []
    for (model, stream, method, asked, _), group in groups.items():
        entry: dict[str, Any] = {
            'model': model,
            'stream': stream,
            'method': method if asked is None else f'{method}, {asked} views',
            'views': group[0]['views'],
            'seeds': [record['seed'] for record in group],
        }
        for name in NUMBERS:
            entry[name] = _mean([record[name] for record in group])
        worst = [r['worst_against_source'] for r in group if r['worst_against_source'] is not None]
        entry['worst_against_source'] = min(worst, default=None)
        entry['rounds'] = _means([record['rounds'] for record in group])
        for part in ('conditions', 'source_conditions'):
            names = list(dict.fromkeys(n for record in group for n in record[part]))
            values = {n: [r[part].get(n) for r in group] for n in names}
            entry[part] = {
                n: _means([v or [] for v in found]) if part == 'conditions' else _mean(found)
                for n, found in values.items()
            }
        means = [record['mean'] for record in group if record['mean'] is not None]
        entry['spread'] = stdev(means) if len(means) > 1 else None
        entries.append(entry)
    return entries


def _mean(values: Sequence[Optional[float]]) -> Optional[float]:
    there = [value for value in values if value is not None]
    return mean(there) if there else None


def _means(rows: Sequence[Sequence[Optional[float]]]) -> list[Optional[float]]:
    longest = max(map(len, rows), default=0)
    return [_mean([row[i] for row in rows if i < len(row)]) for i in range(longest)]
