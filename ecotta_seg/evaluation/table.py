"""Shows a ``results.json`` document as tables on the screen."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Optional

from rich import box
from rich.columns import Columns
from rich.console import Console, Group
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from ..names.printable import printable
from .class_areas import mean_of
from .results import CLEAR_KEYS

MIB = 2**20
_NOTHING = '–'


def print_results(document: Mapping, console: Optional[Console] = None) -> None:
    """Prints the tables of :func:`render_results`; without a terminal, 100 columns wide."""
    if console is None:
        console = Console()
        if not console.is_terminal:
            console = Console(width=100)
    console.print(render_results(document))


def render_results(document: Mapping) -> Group:
    """Renders a results document as tables.

    Args:
        document: A document of ``results.json``, schema 1.

    Returns:
        Tables of mIoU per condition and round, IoU per class, the clear day, memory and time, and
        notes. Parts that were not measured are left out. If no frame has a label, the estimated
        mIoU takes the place of the scores. Names are escaped.
    """
    parts = []
    if _is_unlabelled(document):
        parts += [_estimate_table(document)] if _is_estimated(document) else []
    else:
        if document['conditions']:
            parts.append(_condition_table(document))
        if document['rounds']:
            parts.append(_class_table(document))
    blocks = [_clear_table(document), _memory_table(document), _seconds_table(document)]
    blocks = [block for block in blocks if block is not None]
    if blocks:
        parts.append(Columns(blocks, padding=(0, 3)))
    parts.append(Text('\n'.join(result_notes(document)), style='dim'))
    return Group(*(Padding(part, (1, 0, 0, 0)) for part in parts))


def _table(title: str, *columns: str) -> Table:
    table = Table(
        title=Text(title, style='bold'),
        title_justify='left',
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        show_edge=False,
    )
    for index, name in enumerate(columns):
        justify = 'right' if index else 'left'
        table.add_column(Text(printable(name)), justify=justify, overflow='fold')
    return table


def _percent(value: Optional[float], than: Optional[float] = None, style: str = '') -> Text:
    """A percentage; it is green if above ``than`` and red if below."""
    if value is None:
        return Text(_NOTHING, style='dim')
    if than is not None:
        style += ' green' if value > than else ' red' if value < than else ''
    return Text(f'{value:.2f}', style=style.strip())


def _points(value: Optional[float], than: Optional[float]) -> Text:
    """A signed difference in percentage points."""
    if value is None or than is None:
        return Text(_NOTHING, style='dim')
    style = 'green' if value > than else 'red' if value < than else ''
    return Text(f'{value - than:+.2f}', style=style)


def condition_score(part: Mapping, condition: str, key: str = 'mIoU') -> Optional[float]:
    """A condition's score in a round, or that of the source or a reference; None if missing."""
    result = part['conditions'].get(condition)
    if isinstance(result, Mapping):
        return result.get(key)
    return result if key == 'mIoU' else None


def _accuracy(part: Mapping) -> Optional[float]:
    return mean_of([condition_score(part, name, 'aAcc') for name in part['conditions']])


def _condition_table(document: Mapping) -> Table:
    conditions, source = document['conditions'], document['source']
    has_source = source['mIoU'] is not None
    method = printable(document['method'])
    change = ['to source'] if has_source else []
    clear = document['clear']
    has_clear = any(clear[key] is not None for key in CLEAR_KEYS)
    day = ['clear day'] if has_clear else []
    table = _table('mIoU in percent', '', *conditions, 'mean', *change, *day, 'aAcc')

    def add(name: str, part: Mapping, compare: bool, clear_score: Optional[float] = None) -> None:
        cells = [
            _percent(condition_score(part, c), condition_score(source, c) if compare else None)
            for c in conditions
        ]
        than = source['mIoU'] if compare else None
        mean = _percent(part['mIoU'], than, 'bold')
        points = [_points(part['mIoU'], than)] if has_source else []
        day = [_percent(clear_score, clear['source'] if compare else None)] if has_clear else []
        table.add_row(Text(name), *cells, mean, *points, *day, _percent(_accuracy(part)))

    if has_source:
        add('source', source, False, clear['source'])
    for name, reference in document.get('references', {}).items():
        add(printable(name), reference, has_source, clear.get('references', {}).get(name))
    if has_source or document.get('references'):
        table.add_section()
    rounds = document['rounds']
    for entry in rounds:
        # The clear-day score belongs to the last round.
        clear_score = clear['after'] if entry is rounds[-1] else None
        add(f'{method}, round {entry["round"]}', entry, has_source, clear_score)
    if len(rounds) > 1:
        table.add_section()
        average = {
            'conditions': {
                name: {
                    key: mean_of([condition_score(entry, name, key) for entry in rounds])
                    for key in ('mIoU', 'aAcc')
                }
                for name in conditions
            },
            'mIoU': document['mean_mIoU'],
        }
        add(f'{method}, all rounds', average, has_source)
    return table


def _is_unlabelled(document: Mapping) -> bool:
    """Whether frames were predicted and none of them had a label."""
    results = [result for entry in document['rounds'] for result in entry['conditions'].values()]
    known = [result for result in results if isinstance(result, Mapping)]
    return bool(known) and not any(result['frames'] for result in known)


def _is_estimated(document: Mapping) -> bool:
    return any(entry.get('estimated_mIoU') is not None for entry in document['rounds'])


def _estimate_table(document: Mapping) -> Table:
    conditions, source, key = document['conditions'], document['source'], 'estimated_mIoU'
    table = _table('estimated mIoU in percent', '', *conditions, 'mean')
    parts = [(f'{document["method"]}, round {e["round"]}', e) for e in document['rounds']]
    for name, part in [('source', source), *parts]:
        if part.get(key) is not None:
            cells = [_percent(condition_score(part, c, key)) for c in conditions]
            table.add_row(Text(printable(name)), *cells, _percent(part[key], None, 'bold'))
    return table


def _class_table(document: Mapping) -> Table:
    """IoU per class of the last round, without classes that are never labelled."""
    last, source = document['rounds'][-1], document['source']
    conditions = list(last['conditions'])
    title = f'IoU per class in percent, round {last["round"]}'
    has_source = bool(source['conditions'])
    change = ['source', 'to source'] if has_source else []
    table = _table(title, '', *conditions, 'mean', *change)

    def mean_iou(part: Mapping, name: str) -> Optional[float]:
        return mean_of([class_iou(result, name) for result in part['conditions'].values()])

    names = dict.fromkeys(n for r in last['conditions'].values() for n in r['IoU'])
    for name in names:
        cells = [class_iou(last['conditions'][condition], name) for condition in conditions]
        if mean_of(cells) is None:
            continue
        mean, before = mean_of(cells), mean_iou(source, name)
        table.add_row(
            Text(printable(name)),
            *(_percent(cell) for cell in cells),
            _percent(mean, before, 'bold'),
            *([_percent(before), _points(mean, before)] if has_source else []),
        )
    return table


def class_iou(result: object, name: str) -> Optional[float]:
    """IoU in percent of a class in a condition's scores; None if the mean excludes the class."""
    if not isinstance(result, Mapping) or name in result.get('left_out', ()):
        return None
    return result.get('IoU', {}).get(name)


def _clear_table(document: Mapping) -> Optional[Table]:
    clear = document['clear']
    if all(clear[key] is None for key in CLEAR_KEYS):
        return None
    table = _table('Clear day (source data)', '', 'mIoU')
    table.add_row('source', _percent(clear['source']))
    table.add_row('before the stream', _percent(clear['before']))
    table.add_row('after the stream', _percent(clear['after']))
    table.add_section()
    if clear['before'] is not None and clear['after'] is not None:
        table.add_row('forgetting', f'{clear["before"] - clear["after"]:.2f}')
    table.add_row('after, to source', _points(clear['after'], clear['source']))
    return table


def memory_rows(document: Mapping) -> list[tuple[str, int]]:
    """Returns name and bytes of each measured part; an indented part belongs to the one above."""
    memory = document['memory']
    rows = [
        ('peak, stock inference', memory['inference_peak_bytes']),
        ('peak, adapting', memory['adaptation_peak_bytes']),
        ('  predicted', memory.get('predicted_peak_bytes')),
        ('  budget', memory.get('budget_bytes')),
        ('  activations', memory.get('activations_bytes')),
        ('  gradients', memory['gradients_bytes']),
        ('  optimizer', memory['optimizer_bytes']),
        ('parameters', memory['parameters_bytes']),
        ('adapters', memory['adapters_bytes']),
        ('kept copies', memory.get('kept_bytes')),
        ('total', memory.get('total_bytes')),
        ('process peak', memory.get('process_peak_bytes')),
    ]
    return [(name, value) for name, value in rows if value is not None]


def _memory_table(document: Mapping) -> Optional[Table]:
    rows = memory_rows(document)
    if not rows:
        return None
    memory = document['memory']
    inference, adaptation = memory['inference_peak_bytes'], memory['adaptation_peak_bytes']
    table = _table('Memory', '', 'MiB')
    for name, value in rows:
        table.add_row(name, f'{value / MIB:.1f}')
        if name == 'peak, adapting' and inference:
            table.add_row('  to inference', f'{adaptation / inference:.2f}x')
    return table


def _seconds_table(document: Mapping) -> Optional[Table]:
    seconds = document['seconds_per_frame']
    inference, adaptation = seconds['inference'], seconds['adaptation']
    if inference is None and adaptation is None:
        return None
    table = _table('Time per frame', '', 'seconds')
    if inference is not None:
        table.add_row('stock inference', f'{inference:.3f}')
    if adaptation is not None:
        table.add_row('adapting', f'{adaptation:.3f}')
    if inference and adaptation is not None:
        table.add_row('to inference', f'{adaptation / inference:.2f}x')
    if seconds.get('adaptation_mean') is not None:
        table.add_row('adapting, mean', f'{seconds["adaptation_mean"]:.3f}')
    overhead, share = seconds.get('harness'), seconds.get('harness_share')
    if overhead is not None and share is not None:
        table.add_row('loop overhead', f'{overhead:.3f} ({share:+.1%})')
    return table


def result_notes(document: Mapping) -> list[str]:
    """Returns sentences that explain the numbers of the tables."""
    results = [
        (name, result)
        for entry in document['rounds']
        for name, result in entry['conditions'].items()
        if isinstance(result, Mapping)
    ]
    views = document.get('views', 1)
    notes = [
        f'Each prediction is made on {views} view{"s" if views != 1 else ""}; '
        'mean: over conditions.'
    ]
    frames = [result['frames'] for _, result in results]
    if _is_unlabelled(document) and not _is_estimated(document):
        notes.append(
            'Nothing was scored or estimated: --cfg-options estimate.every=5 estimates mIoU '
            'without labels.'
        )
    elif any(frames):
        counts = f'{min(frames)}' if min(frames) == max(frames) else f'{min(frames)}-{max(frames)}'
        notes.append(f'Scored frames per condition and round: {counts}.')
    missing = sum(result.get('frames_without_label', 0) for _, result in results)
    if missing:
        notes.append(f'{missing} frames without a label were predicted but not scored.')
    left_out: dict[tuple, list[str]] = {}
    for name, result in results:
        if result.get('left_out') and result['frames']:
            conditions = left_out.setdefault(tuple(result['left_out']), [])
            if name not in conditions:
                conditions.append(name)
    for names, conditions in left_out.items():
        where = '' if len(left_out) == 1 else f' ({_names(conditions)})'
        notes.append(f'Never in the labels, so left out of the mean{where}: {_names(names)}.')
    if document['memory']['inference_peak_bytes'] is not None:
        notes.append('Peaks do not include the parameters and adapters.')
    predicted = document['memory'].get('predicted_peak_bytes')
    measured = document['memory'].get('adaptation_peak_bytes')
    if predicted is not None and measured is not None and measured > predicted:
        notes.append(
            'The measured peak is above the predicted one, because it covers the whole step: the '
            'plan leaves out the preprocessed frame, logits at the size of the label, and '
            'forwards in addition to the one that learns (of the source, of an estimate).'
        )
    if document['memory'].get('plan'):
        notes.append(f'Memory plan: {printable(document["memory"]["plan"])}.')
    compute = document.get('compute')
    if compute and compute['learned_share'] is not None:
        share, mean = compute['learned_share'], compute['operations_to_inference']
        notes.append(
            f'Compute budget {compute["budget"]:g}x: learned from {share:.0%} of the frames, '
            f"{mean:.2f} times inference's operations."
        )
    if document['memory'].get('fallbacks'):
        names = _names(document['memory']['fallbacks'])
        notes.append(f'Run by lean autograd: {names}.')
    if document['events']:
        kinds = Counter(event_kind(event) for event in document['events'])
        listed = ', '.join(f'{count} x {printable(kind)}' for kind, count in kinds.most_common())
        notes.append(f'Events: {listed}; see results.json.')
    return notes


def event_kind(event: Mapping) -> str:
    """Returns the kind of an event in ``results.json``, such as ``'rollback'``."""
    for key in ('event', 'kind', 'type', 'action', 'reason'):
        if event.get(key):
            return str(event[key])
    return 'event'


def _names(names: Sequence[str]) -> str:
    return ', '.join(printable(name) for name in names)
