"""``results.json`` and ``results.csv``: the measurements of a run, for other programs.

Schema 1 of the document follows. Percentages are from 0 to 100, peaks are bytes above the
parameters, ``null`` means not measured. Additional keys are allowed everywhere:

.. code-block:: text

    {"schema": 1, "method": str, "conditions": [str, ...],
     "rounds": [{"round": int, "conditions": {CONDITION: SCORES, ...}, "mIoU"}, ...],
     "mean_mIoU",
     "source": {"conditions": {CONDITION: SCORES, ...}, "mIoU"},
     "clear": {"source", "before", "after", "references" (optional)},
     "memory": {"inference_peak_bytes", "adaptation_peak_bytes", "parameters_bytes",
                "adapters_bytes", "gradients_bytes", "optimizer_bytes",
                "kept_bytes" (optional), "total_bytes" (optional)},
     "seconds_per_frame": {"inference", "adaptation",
                           "harness" (optional), "harness_share" (optional)},
     "events": [object, ...]}
    SCORES = {"mIoU", "aAcc", "frames": int, "IoU": {CLASS: number or null}}

``"kept_bytes"`` is the memory that stays allocated between two steps, without parameters, adapters,
gradients and the optimizer's state: parameters for a reset, copies of a teacher or an anchor, a
guard's last good state. No peak includes these bytes. ``"total_bytes"`` is the sum of parameters,
adapters, kept copies and the peak of adapting.

``"harness"`` is the loop overhead: the mean time per frame outside the step (waiting for
data, metric, hooks). Round 1, in which the source predicts as well, does not count.
``"harness_share"`` is the same time as a fraction of the steps' mean. ``"inference"`` and
``"adaptation"`` are medians.

If the memory engine ran, ``"memory"`` also has ``"plan"`` (a sentence), ``"predicted_peak_bytes"``
(to compare with ``adaptation_peak_bytes``), ``"budget_bytes"`` (``null`` without a budget) and
``"fallbacks"`` (names of modules that plain autograd runs). If the engine should have run but does
not support the model, only ``"fallbacks"`` is present.
If mIoU was estimated without labels, the rounds and their SCORES also have ``"estimated_mIoU"`` (of
the adapted prediction), ``"source_estimated_mIoU"`` (of the source's prediction on the same frames)
and ``"source_given"`` (fraction of frames for which the source's prediction was returned and
scored, 0 to 1). ``"source"`` and its SCORES have ``"estimated_mIoU"``, of round 1.
``"views"`` is the number of views over which each prediction of the method is averaged. An optional
``"references": {NAME: {"conditions", "mIoU"}}`` holds other methods for comparison, and
``"references": {NAME: mIoU}`` in ``"clear"`` holds their clear-day scores.
An optional ``"confusion": {"method": CONFUSION, "source": CONFUSION or null}`` has the pixels of
each label and prediction in the method's last round and in the source's: CONFUSION = ``{"round":
int, "pixels": {LABEL: {PREDICTION: int}}}``, without zeros, see ``confusion.py``.
An optional ``"compute": {"budget", "learned_share", "operations_to_inference"}`` has the account of
a compute budget: the share of frames with a step, 0 to 1, and the mean operations of a frame as a
multiple of stock inference's. ``"seconds_per_frame"`` then has the mean, ``"adaptation_mean"``.
``"code"`` (optional) has the versions of the code: ``"ecotta_seg"`` with a digest of its files.
"""

import csv
import io
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Optional, Union

from ..files.atomic_io import atomic_write
from .class_areas import mean_of
from .confusion import check_confusion
from .estimates import ESTIMATE_KEYS

SCHEMA = 1
CLEAR_KEYS = ('source', 'before', 'after')
MEMORY_KEYS = (
    'inference_peak_bytes',
    'adaptation_peak_bytes',
    'parameters_bytes',
    'adapters_bytes',
    'gradients_bytes',
    'optimizer_bytes',
)
# Optional, because they are newer than the schema.
MORE_MEMORY_KEYS = ('kept_bytes', 'total_bytes')
SECONDS_KEYS = ('inference', 'adaptation')
MORE_SECONDS_KEYS = ('harness', 'harness_share', 'adaptation_mean')


@dataclass
class Results:
    """The parts of a run's results; parts that were not measured keep their defaults.

    Attributes:
        method: The name of the adaptation method.
        rounds: From ``PerConditionIoU.rounds``.
        source: ``{'conditions', 'mIoU'}`` of the unchanged source model.
        clear: mIoU on the source domain's validation set: ``source``, ``before``, ``after``.
        memory: Bytes by the names in ``MEMORY_KEYS``.
        seconds_per_frame: ``inference``, ``adaptation``, ``harness`` and ``harness_share``.
        events: Events of the guard and of the frame check, and resets by the method itself.
        extra: Further keys for the top level of the document.
    """

    method: str
    rounds: Sequence[Mapping] = ()
    source: Optional[Mapping] = None
    clear: Optional[Mapping] = None
    memory: Optional[Mapping] = None
    seconds_per_frame: Optional[Mapping] = None
    events: Sequence[Mapping] = ()
    extra: Mapping = field(default_factory=dict)

    def document(self) -> dict:
        """Builds and validates the document of schema 1, from plain JSON types.

        Raises:
            ValueError: A part does not fit the schema.
        """
        conditions = [name for entry in self.rounds for name in entry.get('conditions', ())]
        source = self.source or {'conditions': {}, 'mIoU': None}
        conditions += list(source.get('conditions', ()))
        document = {
            'schema': SCHEMA,
            'method': self.method,
            'conditions': list(dict.fromkeys(conditions)),
            'rounds': list(self.rounds),
            'mean_mIoU': mean_of([_plain(entry.get('mIoU')) for entry in self.rounds]),
            'source': source,
            'clear': {**dict.fromkeys(CLEAR_KEYS), **(self.clear or {})},
            'memory': {**dict.fromkeys(MEMORY_KEYS), **(self.memory or {})},
            'seconds_per_frame': {
                **dict.fromkeys(SECONDS_KEYS),
                **(self.seconds_per_frame or {}),
            },
            'events': list(self.events),
        }
        document.update({key: value for key, value in self.extra.items() if key not in document})
        return validate_results(_plain(document))


def _plain(value: Any) -> Any:
    """Converts to JSON types: NaN and infinity to None, NumPy and torch scalars to numbers."""
    if value is None or isinstance(value, (bool, str)):
        return value
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if hasattr(value, 'tolist'):
        return _plain(value.tolist())
    return str(value)


def _fail(where: str, expected: str, found: Any) -> None:
    shown = repr(found)
    shown = shown if len(shown) <= 60 else shown[:57] + '...'
    raise ValueError(f'results: {where} must be {expected}, got {shown}')


def _object(value: Any, where: str, keys: Sequence[str] = ()) -> Mapping:
    if not isinstance(value, Mapping):
        _fail(where, 'an object', value)
    for key in keys:
        if key not in value:
            raise ValueError(f'results: {where} lacks the key {key!r}')
    return value


def _number(value: Any, where: str, top: float = math.inf) -> None:
    if value is None:
        return
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    # Rounding of a mean can give slightly more than 100.
    if not is_number or not math.isfinite(value) or not 0 <= value <= top * (1 + 1e-9):
        _fail(where, f'a number from 0 to {top:g} or null', value)


def _scores(value: Any, where: str) -> None:
    _object(value, where, ('conditions', 'mIoU'))
    _number(value['mIoU'], f'{where}.mIoU', 100)
    for key in ESTIMATE_KEYS:
        _number(value.get(key), f'{where}.{key}', 100)
    for name, result in _object(value['conditions'], f'{where}.conditions').items():
        place = f'{where}.conditions.{name}'
        _object(result, place, ('mIoU', 'aAcc', 'frames', 'IoU'))
        _number(result['mIoU'], f'{place}.mIoU', 100)
        _number(result['aAcc'], f'{place}.aAcc', 100)
        for key in ESTIMATE_KEYS:
            _number(result.get(key), f'{place}.{key}', 100)
        frames = result['frames']
        if not isinstance(frames, int) or isinstance(frames, bool) or frames < 0:
            _fail(f'{place}.frames', 'a count', frames)
        for class_name, iou in _object(result['IoU'], f'{place}.IoU').items():
            _number(iou, f'{place}.IoU.{class_name}', 100)


def validate_results(document: Any) -> dict:
    """Checks a document against schema 1.

    Args:
        document: The parsed JSON.

    Returns:
        The same document.

    Raises:
        ValueError: The document does not fit; the message names the position and the expectation.
    """
    keys = ('schema', 'method', 'conditions', 'rounds', 'mean_mIoU', 'source', 'clear', 'memory')
    _object(document, 'the document', (*keys, 'seconds_per_frame', 'events'))
    if document['schema'] != SCHEMA:
        _fail('schema', f'{SCHEMA} (of this version)', document['schema'])
    if not isinstance(document['method'], str):
        _fail('method', 'a string', document['method'])
    for key in ('conditions', 'rounds', 'events'):
        if not isinstance(document[key], list):
            _fail(key, 'a list', document[key])
    for index, name in enumerate(document['conditions']):
        if not isinstance(name, str):
            _fail(f'conditions[{index}]', 'a string', name)
    last = 0
    for index, entry in enumerate(document['rounds']):
        where = f'rounds[{index}]'
        _object(entry, where, ('round',))
        number = entry['round']
        if not isinstance(number, int) or isinstance(number, bool) or number <= last:
            _fail(f'{where}.round', f'an integer above {last}', number)
        last = number
        _scores(entry, where)
        unknown = set(entry['conditions']) - set(document['conditions'])
        if unknown:
            _fail(f'{where}.conditions', 'among "conditions"', sorted(unknown))
    _number(document['mean_mIoU'], 'mean_mIoU', 100)
    _scores(document['source'], 'source')
    for key, value in _object(document['clear'], 'clear', CLEAR_KEYS).items():
        if key in CLEAR_KEYS:
            _number(value, f'clear.{key}', 100)
    for name, value in _object(document['clear'].get('references', {}), 'clear.references').items():
        _number(value, f'clear.references.{name}', 100)
    for part, names in (('memory', MEMORY_KEYS), ('seconds_per_frame', SECONDS_KEYS)):
        _object(document[part], part, names)
        for key in names:
            _number(document[part][key], f'{part}.{key}')
    for part, names in (('memory', MORE_MEMORY_KEYS), ('seconds_per_frame', MORE_SECONDS_KEYS)):
        for key in names:
            _number(document[part].get(key), f'{part}.{key}')
    for index, event in enumerate(document['events']):
        _object(event, f'events[{index}]')
    for name, reference in _object(document.get('references', {}), 'references').items():
        _object(reference, f'references.{name}', ('conditions', 'mIoU'))
        _number(reference['mIoU'], f'references.{name}.mIoU', 100)
        _object(reference['conditions'], f'references.{name}.conditions')
    for name, confusion in _object(document.get('confusion', {}), 'confusion').items():
        if confusion is not None:
            check_confusion(confusion, f'confusion.{name}')
    return document


def save_results(document: Mapping, folder: Union[str, Path]) -> tuple[Path, Path]:
    """Writes ``results.json`` and ``results.csv``, each completely or not at all.

    Args:
        document: A document of schema 1; NaN and infinity are written as ``null``.
        folder: The folder to write to; created if missing.

    Returns:
        The paths of the JSON and the CSV file.

    Raises:
        ValueError: The document does not fit the schema; no file is written.
        OSError: The folder is not writable.
    """
    document = validate_results(_plain(document))
    json_path, csv_path = Path(folder) / 'results.json', Path(folder) / 'results.csv'
    with atomic_write(json_path) as temporary:
        text = json.dumps(document, indent=2, allow_nan=False)
        temporary.write_text(text + '\n', encoding='utf-8')
    with atomic_write(csv_path) as temporary:
        # A name from a data set may contain bytes that are not text.
        with open(temporary, 'w', encoding='utf-8', errors='backslashreplace', newline='') as file:
            file.write(_csv(document))
    return json_path, csv_path


def _csv(document: Mapping) -> str:
    """One row per method, round and condition; the source's rows come first, without a round."""
    scored = [('source', '', document['source'])]
    scored += [(name, '', part) for name, part in document.get('references', {}).items()]
    scored += [(document['method'], entry['round'], entry) for entry in document['rounds']]
    results = [result for *_, part in scored for result in part['conditions'].values()]
    classes = list(dict.fromkeys(name for r in results for name in _iou(r)))
    output = io.StringIO()
    writer = csv.writer(output, lineterminator='\n')
    names = ['mIoU', 'aAcc', 'frames', 'frames_without_label']
    # Only if there is an estimate: other programs expect the columns of runs without estimates.
    names += [key for key in ESTIMATE_KEYS if any(key in r for r in results if _is_scores(r))]
    writer.writerow(['method', 'round', 'condition', *names, *(f'IoU {c}' for c in classes)])
    for method, number, part in scored:
        for condition, result in part['conditions'].items():
            if not isinstance(result, Mapping):
                result = {'mIoU': result}
            values = [result.get(name) for name in names]
            iou = _iou(result)
            writer.writerow([method, number, condition, *values, *map(iou.get, classes)])
    return output.getvalue()


def _is_scores(result: Any) -> bool:
    return isinstance(result, Mapping)


def _iou(result: Any) -> Mapping:
    return result.get('IoU', {}) if isinstance(result, Mapping) else {}


def load_results(path: Union[str, Path]) -> dict:
    """Reads and validates a ``results.json``.

    Args:
        path: The file, or the work dir that holds it.

    Returns:
        The document of schema 1.

    Raises:
        FileNotFoundError: The file does not exist.
        ValueError: The file is not JSON or does not fit the schema; the message names the file.
    """
    path = Path(path)
    if path.is_dir():
        path = path / 'results.json'

    def refuse(constant: str) -> None:
        raise ValueError(f'results: {constant} is no JSON number')

    try:
        return validate_results(json.loads(path.read_text(encoding='utf-8'), parse_constant=refuse))
    except FileNotFoundError:
        raise FileNotFoundError(
            f'{path} does not exist; run tools/test_tta.py with --work-dir {path.parent} first'
        ) from None
    except (ValueError, RecursionError) as error:
        raise ValueError(f'{path} is not a results file of schema {SCHEMA}: {error}') from None
