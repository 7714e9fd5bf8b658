"""Writes the chosen method as a file that ``--method`` accepts."""

import pprint
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Optional

from mmengine.config import Config

from ..config.config import read_config
from ..config.method import method_file
from ..files.atomic_io import atomic_write_text
from .candidates import Candidate, adaptation_of


def write_preset(
    path: Path, candidate: Optional[Candidate], cfg: Config, configs: Path, comment: str
) -> None:
    """Writes a file with ``adaptation = dict(...)``, completely or not at all.

    If the chosen method comes from a user's file, the ``custom_imports`` of that file are copied.

    Args:
        path: The file to write, with the suffix ``.py``.
        candidate: The chosen candidate; None for the source model without adaptation.
        cfg: Config of the model.
        configs: The folder ``configs``.
        comment: Comment for the head of the file, one or several lines.
    """
    options: dict[str, Any] = dict(type='source')
    imports: Mapping = {}
    if candidate is not None:
        options = adaptation_of(cfg, candidate.name, configs)
        imports = read_config(method_file(candidate.name, configs)).get('custom_imports') or {}
        if candidate.key is not None:
            place = options
            *outer, last = candidate.key.split('.')
            for name in outer:
                place = place[name]
            place[last] = candidate.value
    head = ''.join(f'# {line}\n' for line in comment.splitlines())
    if imports:
        head += f'custom_imports = {_text(dict(imports))}\n'
    atomic_write_text(path, f'{head}adaptation = {_text(options)}\n')


def _text(options: Mapping) -> str:
    return pprint.pformat(options, sort_dicts=False, width=99)
