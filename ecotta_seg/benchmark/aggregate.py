"""Aggregates the records of several seeds."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from statistics import stdev
from typing import Any, Optional

from ..evaluation.class_areas import mean_of
from .paired import DRAWS, paired_differences
from .runs import settings_digest
from .summary import NUMBERS

# The keys of a record that describe the source model. For one seed, their values are equal for all
# methods.
_OF_SOURCE = ('source_mean', 'clear_source', 'batch_statistics', 'source_conditions')


def aggregate(records: Iterable[Mapping], draws: int = DRAWS) -> list[dict]:
    """Averages records over seeds: one entry for each model, stream, method and number of views.

    Runs that differ in rounds, options, checkpoint or adapters get separate entries, and the name
    of the method in each entry states the difference. ``worst_against_source`` is the worst value
    over the seeds; ``event_kinds`` counts the events of all seeds.

    Args:
        records: The records of ``read_runs``. Records with an ``error`` are left out.
        draws: Number of bootstrap draws.

    Returns:
        Entries with the keys of the records, and with ``seeds`` (a list), ``spread`` (the standard
        deviation of ``mean`` over seeds, None for one seed), ``source_by_seed`` (see
        ``source_of``) and ``paired`` (see ``paired_differences``).
    """
    groups: dict[tuple, list[Mapping]] = {}
    for record in records:
        if record['error'] is None:
            names = ('model', 'stream', 'method', 'asked_views')
            digest = settings_digest(record.get('settings') or {})
            groups.setdefault((*(record[name] for name in names), digest), []).append(record)
    entries = []
    for key, group in groups.items():
        model, stream, method, asked, _ = key
        namesakes = [other for name, other in groups.items() if name[:-1] == key[:-1]]
        entry: dict[str, Any] = {
            'model': model,
            'stream': stream,
            'method': method
            + ('' if asked is None else f', {asked} views')
            + _difference_of(group[0], [other[0] for other in namesakes]),
            'views': group[0]['views'],
            'seeds': [record['seed'] for record in group],
            'event_kinds': dict(sum((Counter(r['event_kinds']) for r in group), Counter())),
            'source_by_seed': {
                f'{r["seed"]}, {r["asked_views"]}': {name: r[name] for name in _OF_SOURCE}
                for r in group
            },
        }
        for name in NUMBERS:
            entry[name] = mean_of([record[name] for record in group])
        worst = [r['worst_against_source'] for r in group if r['worst_against_source'] is not None]
        entry['worst_against_source'] = min(worst, default=None)
        entry['rounds'] = _means([record['rounds'] for record in group])
        for part in ('conditions', 'source_conditions'):
            names = list(dict.fromkeys(n for record in group for n in record[part]))
            values = {n: [r[part].get(n) for r in group] for n in names}
            entry[part] = {
                n: _means([v or [] for v in found]) if part == 'conditions' else mean_of(found)
                for n, found in values.items()
            }
        means = [record['mean'] for record in group if record['mean'] is not None]
        entry['spread'] = stdev(means) if len(means) > 1 else None
        entry['paired'] = paired_differences([record['folder'] for record in group], draws)
        entries.append(entry)
    return entries


def _difference_of(record: Mapping, namesakes: Sequence[Mapping]) -> str:
    settings = [other.get('settings') or {} for other in namesakes]
    own = record.get('settings') or {}
    differing = [name for name in own if len({str(other.get(name)) for other in settings}) > 1]
    return ''.join(f', {name} {own[name]}' for name in differing)


def source_of(entries: Iterable[Mapping]) -> dict:
    """The mean scores of the source model, which each run also measures; each seed counts once.

    Args:
        entries: The entries of ``aggregate`` for one model and stream.

    Returns:
        A dictionary with ``source_mean``, ``clear_source``, ``batch_statistics`` and
        ``source_conditions``, see ``summarise``.
    """
    seeds: dict[str, Mapping] = {}
    for entry in entries:
        for seed, found in entry['source_by_seed'].items():
            seeds.setdefault(seed, found)
    rows = list(seeds.values())
    names = dict.fromkeys(name for row in rows for name in row['source_conditions'])
    return {
        **{name: mean_of([row[name] for row in rows]) for name in _OF_SOURCE[:-1]},
        'source_conditions': {
            name: mean_of([row['source_conditions'].get(name) for row in rows]) for name in names
        },
    }


def _means(rows: Sequence[Sequence[Optional[float]]]) -> list[Optional[float]]:
    longest = max(map(len, rows), default=0)
    return [mean_of([row[i] for row in rows if i < len(row)]) for i in range(longest)]
