"""Summarises the results of runs."""

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Optional, Union

from ..evaluation.results import load_results
from .runs import RUN_FILE, BenchmarkRun, run_folder

# The numbers that are averaged over seeds.
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
    """Computes the scores, times and memory of one run from its results.

    Args:
        document: The content of a ``results.json``.

    Returns:
        A dictionary with ``rounds`` (the mIoU of each round), ``conditions`` (for each condition,
        the mIoU of each round), ``source_conditions`` (for each condition, the source's mIoU) and
        the numbers in ``NUMBERS``. mIoU is in percent, times are seconds per frame, peaks are
        bytes. A number that was not measured is None. ``forgetting`` is the source's mIoU on the
        clear day minus the adapted model's after the stream. ``worst_against_source`` is the
        minimum over conditions and rounds of the method's mIoU minus the source's.
        ``harness_share`` is the loop overhead: the time that the test loop adds to a step, as a
        share of the step's time. ``event_kinds`` counts the events by kind (``skip``, ``rollback``,
        ...). ``batch_statistics`` is the mIoU of the method ``batch_norm_statistics``, if the run
        also measured it as a reference. ``code`` is the version of this package.
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
        'event_kinds': dict(Counter(str(e.get('event')) for e in document['events'])),
        'batch_statistics': _batch_statistics(document),
        'code': (document.get('code') or {}).get('ecotta_seg'),
    }


def _batch_statistics(document: Mapping) -> Optional[float]:
    reference = (document.get('references') or {}).get('batch_statistics') or {}
    return reference.get('mIoU')


def _difference(first: Optional[float], second: Optional[float]) -> Optional[float]:
    return None if first is None or second is None else first - second


def read_runs(
    runs: Iterable[BenchmarkRun], errors: Mapping[BenchmarkRun, str], work_dir: Union[str, Path]
) -> list[dict]:
    """Reads a record for each run: identity, ``error`` or None, and the result of ``summarise``.

    Args:
        runs: The runs.
        errors: The error texts of runs that failed or must not be read.
        work_dir: The work dir of the benchmark.
    """
    records = []
    for run in runs:
        record = {
            'model': run.model.name,
            'method': run.method.label,
            'stream': run.stream,
            'seed': run.seed,
            'asked_views': run.views,
            'folder': str(run_folder(run, work_dir)),
        }
        records.append(_filled(record, errors.get(run)))
    return records


def collect_runs(work_dir: Union[str, Path], known: Sequence[Mapping]) -> list[dict]:
    """Reads the records of the finished runs in a work directory that are not in ``known``."""
    folders = {record['folder'] for record in known}
    records = []
    for path in sorted(Path(work_dir, 'cells').rglob(RUN_FILE)):
        if str(path.parent) in folders or any('.before' in p.name for p in path.parents):
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


def _settings(folder: str) -> dict:
    """All settings of a run except its seed, by dotted names. Runs with equal ones are averaged."""
    try:
        settings = json.loads(Path(folder, RUN_FILE).read_text(encoding='utf-8'))
        return {k: v for k, v in _leaves(dict(settings, seed=None)) if v not in (None, '')}
    except (OSError, ValueError, TypeError):
        return {}


def _leaves(value: Any, name: str = '') -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _leaves(inner, f'{name}.{key}' if name else key)
    else:
        yield name, ' '.join(map(str, value)) if isinstance(value, list) else value
