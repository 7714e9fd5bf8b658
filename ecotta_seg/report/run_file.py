"""``run.json``: the settings of a run, written before its first frame.

.. code-block:: text

    {"schema": 1, "started": ISO time, "finished": ISO time or null,
     "commands": [{"command": [str, ...], "folder": str}, ...],
     "environment": {NAME: str}, "processes": int,
     "config": str or null, "adaptation": str, "checkpoint": str or null,
     "checkpoint_digest": str or null, "seed": int or null, "device": str, "versions": {NAME: str},
     "method": str, "classes": [str, ...], "frames": int, "rounds": int,
     "metric": {"mean_over": str, "ignore_index": int} or null,
     "data": {"frames": {CONDITION: {"frames": int, "digest": str}} or null,
              "settings": {NAME: str}}}

The first command started the run, the others resumed it. ``"environment"`` has the environment
variables that the config reads and that are set. ``"adaptation"`` has ``adaptation``, ``estimate``
and ``views`` of the config as the text of a config file. If two runs have frames of the same names
in a condition, the ``"digest"`` is equal. ``"settings"`` has the pipeline steps that change the
content of a frame, such as made weather, with their options.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Optional, Union

from ..files.atomic_io import atomic_write_text

RUN_FILE = 'run.json'
SCHEMA = 1
_TYPES: dict[str, Any] = {
    'started': str,
    'finished': (str, type(None)),
    'commands': list,
    'environment': dict,
    'processes': int,
    'config': (str, type(None)),
    'adaptation': str,
    'checkpoint': (str, type(None)),
    'checkpoint_digest': (str, type(None)),
    'seed': (int, type(None)),
    'device': str,
    'versions': dict,
    'method': str,
    'classes': list,
    'frames': int,
    'rounds': int,
    'metric': (dict, type(None)),
    'data': dict,
}


def write_run_file(folder: Union[str, Path], record: Mapping) -> Path:
    """Writes ``run.json`` atomically.

    Args:
        folder: The work dir.
        record: All keys except ``schema``.

    Returns:
        The path.

    Raises:
        OSError: The file cannot be written.
    """
    path = Path(folder) / RUN_FILE
    text = json.dumps({'schema': SCHEMA, **{key: record[key] for key in _TYPES}}, indent=2)
    atomic_write_text(path, text + '\n')
    return path


def read_run_file(folder: Union[str, Path]) -> Optional[dict]:
    """Returns the content of ``run.json`` in a work dir; None if there is no such file.

    Raises:
        ValueError: The file is damaged.
    """
    path = Path(folder) / RUN_FILE
    try:
        record = json.loads(path.read_text(encoding='utf-8'))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (ValueError, RecursionError):
        record = None
    if not _fits(record):
        raise ValueError(
            f'{path} is damaged or of another version: remove the file to make the report without '
            'settings'
        )
    return record


def _fits(record: Any) -> bool:
    if not isinstance(record, Mapping) or record.get('schema') != SCHEMA:
        return False
    if not all(key in record and isinstance(record[key], kind) for key, kind in _TYPES.items()):
        return False
    commands, data = record['commands'], record['data']
    frames = data.get('frames')
    return (
        all(isinstance(c, Mapping) and {'command', 'folder'} <= c.keys() for c in commands)
        and isinstance(data.get('settings'), Mapping)
        and isinstance(frames, (Mapping, type(None)))
        and all(
            isinstance(f, Mapping) and {'frames', 'digest'} <= f.keys() for f in _values(frames)
        )
    )


def _values(found: Optional[Mapping]) -> list:
    return list(found.values()) if found else []
