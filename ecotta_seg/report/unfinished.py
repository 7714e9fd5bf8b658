"""The results of an unfinished run, from its newest saved state."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Optional, Union

from ..evaluation.per_condition_iou import PerConditionIoU
from ..evaluation.results import Results
from ..files.json_lines import decode_json_lines
from ..resume.state_file import StateFileError, read_state

_STATES = 'stream_state_rank0_*.pth'
_KEYS = ('position', 'metrics', 'hooks', 'growing')


class SavedPart(NamedTuple):
    """The saved part of a run.

    Attributes:
        frames: The number of finished frames of the stream; 0 without a state.
        document: Results of these frames, of schema 1.
        history: See ``StreamPlotHook``.
    """

    frames: int
    document: dict
    history: list[dict]


def saved_part(folder: Union[str, Path], record: Mapping) -> SavedPart:
    """Reads the newest undamaged state of a run's first process.

    Args:
        folder: The work dir.
        record: The content of the run's ``run.json``.

    Raises:
        ValueError: All states are damaged.
    """
    state = _newest(Path(folder) / 'state')
    if state is None:
        return SavedPart(0, Results(record['method']).document(), [])
    classes, settings = record['classes'], record['metric'] or {}
    metric = next((found for found in state['metrics'] if 'groups' in found), None)
    rounds, confusion = _scores(metric, classes, settings)
    extra: dict[str, Any] = {}
    if confusion is not None:
        extra['confusion'] = {'method': confusion, 'source': None}
    source = _hook(state, 'SourceReferenceHook')
    parts: dict[str, Any] = {}
    for name, found in (source or {}).get('metrics', {}).items():
        summary, source_confusion = _scores(found, classes, {})
        if not summary:
            continue
        scores = {key: summary[0][key] for key in ('conditions', 'mIoU')}
        if name == 'source':
            parts['source'] = scores
            if confusion is not None:
                extra['confusion']['source'] = source_confusion
        else:
            extra.setdefault('references', {})[name] = scores
    clear = _hook(state, 'ForgettingHook')
    events = decode_json_lines(state['growing'].get('events', ''))
    document = Results(
        record['method'], rounds, clear=clear, events=events, extra=extra, **parts
    ).document()
    history = decode_json_lines(state['growing'].get('history', ''))
    return SavedPart(int(state['position']), document, history)


def _newest(folder: Path) -> Optional[dict]:
    damaged = None
    for path in sorted(folder.glob(_STATES), reverse=True):
        try:
            state = read_state(path)
        except StateFileError as error:
            damaged = damaged or error
            continue
        if all(key in state for key in _KEYS):
            return state
    if damaged is not None:
        raise ValueError(f'no saved state of the run is complete: {damaged}')
    return None


def _scores(
    state: Optional[Mapping], classes: Sequence[str], settings: Mapping
) -> tuple[list[dict], Optional[dict]]:
    """The scores of each round, and the confusion, from a metric's saved sums."""
    if state is None:
        return [], None
    metric = PerConditionIoU(**settings)
    metric.dataset_meta = {'classes': classes}
    metric.load_state_dict(dict(state))
    return metric.merged_summary(0), metric.confusion


def _hook(state: Mapping, name: str) -> Optional[Mapping]:
    """The saved state of the first hook of a class."""
    for key, found in state['hooks'].items():
        if key.rpartition(' ')[0].rpartition('.')[2] == name:
            return found
    return None
