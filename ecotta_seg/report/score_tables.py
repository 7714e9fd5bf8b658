"""The tables of a run's scores: by condition and round, by class, and the confusion matrices."""

from collections.abc import Mapping, Sequence
from typing import Optional

from ..evaluation.class_areas import mean_of
from ..evaluation.results import CLEAR_KEYS
from ..evaluation.table import class_iou, condition_score
from .tables import Table, percent, points, shade

# If there are more classes, a matrix shows those with the most labelled pixels.
_MOST_CLASSES = 24


def condition_table(document: Mapping) -> Optional[Table]:
    """Builds the table of mIoU: source, references, each round, estimates; None without scores."""
    conditions, source, rounds = document['conditions'], document['source'], document['rounds']
    if not conditions:
        return None
    compared = source['mIoU'] is not None
    table = Table(
        'mIoU in percent', ['', *conditions, 'mean', *(['to source'] if compared else [])]
    )

    estimated = any(entry.get('estimated_mIoU') is not None for entry in rounds)

    def add(name: str, part: Mapping, against: bool = False, key: str = 'mIoU') -> None:
        if estimated and part.get(key) is None:
            return  # Without labels the estimates are the whole table.
        cells = []
        for condition in conditions:
            than = condition_score(source, condition) if against else None
            cells.append(percent(condition_score(part, condition, key), than))
        mean = part.get(key)
        cells.append(percent(mean, source['mIoU'] if against else None))
        if compared:
            cells.append(points(mean, source['mIoU'] if against else None))
        table.add(name, cells, strong=key == 'mIoU' and bool(rounds) and part is rounds[-1])

    if compared:
        add('source', source)
    for name, reference in document.get('references', {}).items():
        add(name, reference, compared)
    for entry in rounds:
        add(f'{document["method"]}, round {entry["round"]}', entry, compared)
    if len(rounds) > 1:
        add(f'{document["method"]}, all rounds', _average(document), compared)
    if source.get('estimated_mIoU') is not None:
        add('source, estimated', source, key='estimated_mIoU')
    for entry in rounds:
        if entry.get('estimated_mIoU') is not None:
            add(f'estimated, round {entry["round"]}', entry, key='estimated_mIoU')
    return table


def _average(document: Mapping) -> dict:
    rounds = document['rounds']
    conditions = {
        name: mean_of([condition_score(entry, name) for entry in rounds])
        for name in document['conditions']
    }
    return {'conditions': conditions, 'mIoU': document['mean_mIoU']}


def clear_table(document: Mapping) -> Optional[Table]:
    """Builds the table of the clear day; None if the clear day was not measured."""
    clear = document['clear']
    if all(clear[key] is None for key in CLEAR_KEYS):
        return None
    table = Table('Clear day', ['', 'mIoU', 'to source'])
    for name, key in (('source', 'source'), ('before', 'before'), ('after', 'after')):
        than = None if key == 'source' else clear['source']
        table.add(
            name if key == 'source' else f'{document["method"]}, {name} the stream',
            [percent(clear[key], than), points(clear[key], than)],
        )
    for name, value in clear.get('references', {}).items():
        table.add(name, [percent(value, clear['source']), points(value, clear['source'])])
    return table


def class_table(document: Mapping) -> Optional[Table]:
    """Builds the table of IoU by class in the last round, best gain first; None without labels."""
    if not document['rounds']:
        return None
    last, source = document['rounds'][-1], document['source']

    def mean(part: Mapping, name: str) -> Optional[float]:
        return mean_of([class_iou(result, name) for result in part['conditions'].values()])

    names = dict.fromkeys(
        name
        for result in last['conditions'].values()
        if isinstance(result, Mapping)
        for name in result['IoU']
    )
    found = [(name, mean(source, name), mean(last, name)) for name in names]
    found = [entry for entry in found if entry[2] is not None]
    if not found:
        return None
    # The sort is stable: equal classes keep the order of the data set.
    found.sort(key=lambda entry: -(entry[2] - entry[1]) if entry[1] is not None else 0.0)
    table = Table(
        f'IoU by class in percent, round {last["round"]}',
        ['', 'source', 'adapted', 'change', *last['conditions']],
    )
    for name, before, after in found:
        cells = [percent(before), percent(after), points(after, before)]
        for condition, result in last['conditions'].items():
            than = class_iou(source['conditions'].get(condition), name)
            cells.append(percent(class_iou(result, name), than))
        table.add(name, cells)
    return table


def confusion_tables(document: Mapping) -> list[Table]:
    """Builds the confusion matrices of the source and of the method; empty without labels."""
    found = document.get('confusion') or {}
    after, before = found.get('method'), found.get('source')
    if not after:
        return []
    names = _shown_classes(after['pixels'])
    tables = []
    for title, confusion in (('source', before), (document['method'], after)):
        if confusion:
            number = f', round {confusion["round"]}' if confusion is after else ''
            tables.append(_confusion_table(f'{title}{number}', confusion['pixels'], names))
    return tables


def left_out_classes(document: Mapping) -> int:
    """Returns the number of labelled classes that have no row in the confusion matrices."""
    after = (document.get('confusion') or {}).get('method')
    return max(0, len(after['pixels']) - _MOST_CLASSES) if after else 0


def _shown_classes(pixels: Mapping[str, Mapping[str, int]]) -> list[str]:
    most = sorted(pixels, key=lambda name: -sum(pixels[name].values()))[:_MOST_CLASSES]
    return [name for name in pixels if name in most]


def _confusion_table(
    title: str, pixels: Mapping[str, Mapping[str, int]], names: Sequence[str]
) -> Table:
    others = any(name not in names for row in pixels.values() for name in row)
    columns = [*names, *(['others'] if others else [])]
    table = Table(title, ['label', *columns], matrix=True)
    for name in names:
        row = pixels.get(name, {})
        total = sum(row.values())
        counts = [row.get(column, 0) for column in names]
        if others:
            # Predictions of classes without a row, and predictions of no class (OUTSIDE).
            counts.append(total - sum(counts))
        table.add(name, [shade(count / total if total else None) for count in counts])
    return table
