"""Computes the values that the template of a report shows."""

import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Optional

from ..evaluation.table import MIB, event_kind, memory_rows, result_notes
from .frame_file import BEST
from .score_tables import (
    class_table,
    clear_table,
    condition_table,
    confusion_tables,
    left_out_classes,
)
from .tables import Cell, Table, number
from .work_dir import RunFiles

_MOST_EVENTS, _MOST_FRAMES = 30, 8
_EVENTS = {
    'skip': 'updates refused by the guard',
    'rollback': 'updates taken back by the guard',
    'reset': 'resets by the guard',
    'own_reset': 'resets by the method',
    'bad_frame': 'bad frames',
    'bad_label': 'labels that cannot be read',
}


def report_values(run: RunFiles) -> dict[str, Any]:
    """Returns the variables of a report's template.

    Args:
        run: The contents of the work dir.
    """
    document = run.document
    return {
        'title': f'{document["method"]}: {", ".join(document["conditions"]) or "no condition"}',
        'summary': _summary(document),
        'unfinished': _unfinished(run),
        'scores': [t for t in (condition_table(document), clear_table(document)) if t],
        'forgetting': _forgetting(document),
        'notes': result_notes(document),
        'classes': class_table(document),
        'confusion': confusion_tables(document),
        'confusion_left_out': left_out_classes(document),
        'frames': _frames(run.frames),
        'frames_left_out': max(0, len(_distinct(run.frames)) - _MOST_FRAMES),
        'event_counts': _event_counts(document['events']),
        'events': _event_table(document['events']),
        'events_left_out': max(0, len(document['events']) - _MOST_EVENTS),
        'costs': [t for t in (memory_table(document), seconds_table(document)) if t],
        'settings': _settings(run),
        'adaptation': run.record['adaptation'] if run.record else None,
        'commands': _commands(run.record),
    }


def _summary(document: Mapping) -> list[str]:
    mean, source = document['mean_mIoU'], document['source']['mIoU']
    if mean is None:
        sentences = ['No frame had a label.' if document['rounds'] else 'No frame is scored yet.']
        sentences += _estimated(document)
    elif source is None:
        sentences = [f'The adapted model has {mean:.2f} mIoU.']
    else:
        sentences = [
            f'The adapted model has {mean:.2f} mIoU, the source {source:.2f}: '
            f'{mean - source:+.2f} points.'
        ]
    rounds = len(document['rounds'])
    if rounds > 1:
        sentences.append(f'This is the mean over {rounds} rounds and all conditions.')
    return sentences


def _estimated(document: Mapping) -> list[str]:
    last = document['rounds'][-1] if document['rounds'] else {}
    mean, source = last.get('estimated_mIoU'), last.get('source_estimated_mIoU')
    if mean is None or source is None:
        return []
    return [
        f'The estimated mIoU of the adapted model is {mean:.2f}, that of the source {source:.2f} '
        f'(round {last["round"]}).'
    ]


def _unfinished(run: RunFiles) -> Optional[str]:
    if run.frames_done is None:
        return None
    whole = run.record['frames'] if run.record else 0
    text = f'The run has not ended: {run.frames_done} of {whole} frames are saved'
    if run.record and run.record['processes'] > 1:
        text += f' by the first of {run.record["processes"]} processes'
    return f'{text}, and the report shows these.'


def _forgetting(document: Mapping) -> Optional[str]:
    clear = document['clear']
    if clear['before'] is None or clear['after'] is None:
        return None
    return f'Forgetting (before minus after): {clear["before"] - clear["after"]:.2f} points.'


def memory_table(document: Mapping) -> Optional[Table]:
    """Builds the table of memory in MiB; None if nothing was measured."""
    rows, memory = memory_rows(document), document['memory']
    if not rows:
        return None
    table = Table('Memory', ['', 'MiB', 'to inference'])
    for name, value in rows:
        ratio = ''
        if name.strip() in ('peak, adapting', 'predicted') and memory['inference_peak_bytes']:
            ratio = f'{value / memory["inference_peak_bytes"]:.2f}x'
        table.add(name.strip(), [number(value / MIB, 1), Cell(ratio)])
    return table


def seconds_table(document: Mapping) -> Optional[Table]:
    """Builds the table of seconds per frame; None if nothing was measured."""
    seconds = document['seconds_per_frame']
    inference, adaptation = seconds['inference'], seconds['adaptation']
    if inference is None and adaptation is None:
        return None
    table = Table('Time a frame', ['', 'seconds', 'to inference'])
    table.add('stock inference', [number(inference, 3), Cell('')])
    ratio = f'{adaptation / inference:.2f}x' if inference and adaptation is not None else ''
    table.add('adapting', [number(adaptation, 3), Cell(ratio)])
    if seconds.get('harness') is not None:
        table.add('loop overhead', [number(seconds['harness'], 3), Cell('')])
    return table


def _distinct(frames: Sequence[Mapping]) -> list[Mapping]:
    """The frames, without a condition's worst frame if it is also the best one."""
    best = {f['condition']: f['stream_index'] for f in frames if f['kind'] == BEST}
    return [f for f in frames if f['kind'] == BEST or best.get(f['condition']) != f['stream_index']]


def _frames(frames: Sequence[Mapping]) -> list[dict]:
    """The frames whose mIoU differs most from the source's mIoU, sorted by condition."""
    shown = sorted(_distinct(frames), key=lambda f: -abs(f['difference']))[:_MOST_FRAMES]
    shown.sort(key=lambda f: (f['condition'], f['kind']))
    return [
        dict(
            f,
            title=f'{f["condition"]}, {f["kind"]} frame of round {f["round"]}',
            score=f'source {f["source_mIoU"]:.2f}, adapted {f["adapted_mIoU"]:.2f} mIoU, '
            f'{f["difference"]:+.2f} points',
        )
        for f in shown
    ]


def _event_counts(events: Sequence[Mapping]) -> Optional[Table]:
    if not events:
        return None
    table = Table('Events by kind', ['', 'number'])
    for kind, count in Counter(map(event_kind, events)).most_common():
        table.add(_EVENTS.get(kind, kind), [Cell(str(count))])
    return table


def _event_table(events: Sequence[Mapping]) -> list[tuple[str, str, str]]:
    """Frame, kind and reason of the first events."""
    shown = []
    for event in events[:_MOST_EVENTS]:
        reason = str(event.get('reason', ''))
        if event.get('path') and str(event['path']) not in reason:
            reason = f'{event["path"]}: {reason}'
        shown.append((str(event.get('stream_index', '')), event_kind(event), reason))
    return shown


def _settings(run: RunFiles) -> list[tuple[str, str]]:
    document, record = run.document, run.record or {}
    facts = [('work dir', str(run.folder)), ('method', document['method'])]
    for name, key in (('config', 'config'), ('checkpoint', 'checkpoint'),
                      ('SHA-256', 'checkpoint_digest'),
                      ('seed', 'seed'), ('device', 'device'), ('processes', 'processes'),
                      ('started', 'started'), ('ended', 'finished')):  # fmt: skip
        if record.get(key) is not None:
            facts.append((name, str(record[key])))
    facts.append(('views', str(document.get('views', 1))))
    versions = record.get('versions') or document.get('code') or {}
    facts += [(name, str(version)) for name, version in versions.items()]
    facts += [
        (f'data: {k}', str(v)) for k, v in (record.get('data') or {}).get('settings', {}).items()
    ]
    plan = document['memory'].get('plan')
    return facts + ([('memory plan', str(plan))] if plan else [])


def _commands(record: Optional[Mapping]) -> list[str]:
    """The command lines that started and resumed the run, ready for a shell."""
    if record is None:
        return []
    variables = ' '.join(
        f'{name}={shlex.quote(value)}' for name, value in record['environment'].items()
    )
    lines = []
    for entry in record['commands']:
        command = shlex.join(map(str, entry['command']))
        prefix = f'{variables} ' if variables else ''
        lines.append(f'cd {shlex.quote(str(entry["folder"]))}\n{prefix}{command}')
    return lines
