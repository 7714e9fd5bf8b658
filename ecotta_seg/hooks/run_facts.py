"""The settings of a Runner's test, for ``run.json``."""

import hashlib
import json
import os
import platform
import sys
from collections.abc import Mapping
from datetime import datetime, timezone
from pathlib import PurePath
from typing import Any, Optional

import numpy as np
from mmengine.config import Config
from mmengine.dist import get_world_size

from ..config.config import inner_dataset
from ..evaluation.per_condition_iou import PerConditionIoU
from ..files.file_digest import file_digest
from ..names.type_names import type_name
from ..resume.run_identity import code_versions
from .run_record import RunRecord

# Path parts that identify a frame: its file name and the folders of its drive and of its split or
# condition. The root of the data set differs between machines.
_NAME_PARTS = 3
# Steps that keep the content of a frame: they load, fit to the model's input size and pack.
_PLAIN_STEPS = (
    *('LoadImageFromFile', 'LoadAnnotations', 'Resize', 'PackSegInputs', 'Pad'),
    *('LoadImageFromNDArray', 'ResizeToMultiple', 'ResizeShortestEdge'),
)


def run_facts(runner: Any, checkpoint: Optional[str]) -> dict:
    """Returns the content of ``run.json`` for a run that starts now.

    Args:
        runner: The Runner, in ``before_test`` and after the hook that builds the method.
        checkpoint: Path of the source model's weights; None for the config's ``load_from``.

    Returns:
        All keys of ``run.json``, see ``ecotta_seg.report.run_file``.
    """
    cfg, dataset = runner.cfg, runner.test_dataloader.dataset
    checkpoint = checkpoint or cfg.get('load_from')
    metric = PerConditionIoU.among(runner.test_evaluator.metrics)
    method = RunRecord(runner).method
    return {
        'started': now(),
        'finished': None,
        'commands': [command()],
        'environment': _environment(cfg),
        'processes': get_world_size(),
        'config': cfg.filename,
        'adaptation': _as_text(cfg),
        'checkpoint': None if checkpoint is None else str(checkpoint),
        'checkpoint_digest': _digest(checkpoint),
        'seed': runner.seed,
        'device': next(runner.model.parameters()).device.type,
        'versions': {
            **code_versions(),
            'NumPy': np.__version__,
            'Python': platform.python_version(),
        },
        'method': str(method or 'source'),
        'classes': [str(name) for name in dataset.metainfo.get('classes') or ()],
        'frames': len(dataset),
        'rounds': int(getattr(dataset, 'rounds', 1)),
        'metric': metric and {'mean_over': metric.mean_over, 'ignore_index': metric.ignore_index},
        'data': {'frames': _frames(dataset), 'settings': _data_settings(cfg)},
    }


def now() -> str:
    """Returns the current time in UTC, in ISO 8601 to the second."""
    return datetime.now(timezone.utc).isoformat(timespec='seconds')


def command() -> dict:
    """Returns the command line of this process, and its working folder."""
    # Python before 3.10 does not know its own arguments, such as -m.
    line = getattr(sys, 'orig_argv', None) or [sys.executable, *sys.argv]
    return {'command': list(line), 'folder': os.getcwd()}


def _environment(cfg: Any) -> dict[str, str]:
    names = getattr(cfg, 'env_variables', None) or {}
    return {name: os.environ[name] for name in sorted(names) if name in os.environ}


def _as_text(cfg: Any) -> str:
    """The adaptation, the estimate and the views as the text of a config file."""
    keys = ('adaptation', 'estimate', 'views')
    part = {key: _named(cfg[key]) for key in keys if cfg.get(key) is not None}
    return Config(part).pretty_text


def _named(value: Any) -> Any:
    """Replaces classes and objects with their names, because a config text cannot hold them."""
    if isinstance(value, Mapping):
        return {str(key): _named(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_named(item) for item in value]
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    return type_name(value)


def _digest(checkpoint: Optional[str]) -> Optional[str]:
    try:
        return None if checkpoint is None else file_digest(checkpoint)
    except OSError:  # A URL, which mmengine can load.
        return None


def _frames(dataset: Any) -> Optional[dict[str, dict]]:
    """For each condition, the number of frames in a round and a digest of the frames' names."""
    if not hasattr(dataset, 'get_data_info'):
        return None
    names: dict[str, list[str]] = {}
    for index in range(getattr(dataset, 'frames_per_round', len(dataset))):
        info = dataset.get_data_info(index)
        name = '/'.join(PurePath(str(info.get('img_path', index))).parts[-_NAME_PARTS:])
        # On a severity ramp the same picture gives another frame at each severity.
        name = f'{name} {info.get("severity", "")}'
        names.setdefault(str(info.get('condition') or 'all'), []).append(name)
    return {
        condition: {'frames': len(found), 'digest': _digest_of(sorted(found))}
        for condition, found in names.items()
    }


def _digest_of(names: list[str]) -> str:
    text = '\0'.join(names).encode('utf-8', 'surrogateescape')
    return hashlib.sha256(text).hexdigest()[:16]


def _data_settings(cfg: Any) -> dict[str, str]:
    """The steps of the test's pipeline that change the content of a frame."""
    steps = inner_dataset(cfg).get('pipeline') if hasattr(cfg, 'get') else None
    settings = {}
    for step in steps or ():
        if isinstance(step, Mapping) and type_name(step) not in _PLAIN_STEPS:
            options = {key: value for key, value in step.items() if key != 'type'}
            settings[type_name(step)] = json.dumps(options, sort_keys=True, default=str)
    return settings
