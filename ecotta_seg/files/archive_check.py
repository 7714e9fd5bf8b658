"""``torch.load`` that refuses damaged files: torch's own reader ignores the files' checksums."""

import zipfile
from pathlib import Path
from typing import Any, Union

import torch


def load_whole(path: Union[str, Path], weights_only: bool = True) -> Any:
    """Loads a file of ``torch.save`` to the CPU.

    Args:
        path: The file; the format before zip archives (torch 1.5) has no checksums to verify.
        weights_only: See ``torch.load``.

    Raises:
        ValueError: A checksum is wrong.
        Exception: Any exception that ``zipfile`` and torch raise for a damaged file.
    """
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
        if damaged is not None:
            raise ValueError(f'the checksum of {damaged} is wrong')
    return torch.load(path, map_location='cpu', weights_only=weights_only)
