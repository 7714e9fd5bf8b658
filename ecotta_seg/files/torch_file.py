"""``torch.load`` that refuses damaged files, and ``torch.save`` that reports a full disk."""

import zipfile
from pathlib import Path
from typing import Any, BinaryIO, Union

import torch

from .atomic_io import atomic_write


def load_whole(path: Union[str, Path], weights_only: bool = True) -> Any:
    """Loads a file that ``torch.save`` wrote, to the CPU, and verifies its checksums.

    torch's own reader ignores the checksums.

    Args:
        path: The file. Files of torch 1.5 and before are no zip archives and have no checksums.
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


def save_whole(content: Any, path: Union[str, Path]) -> None:
    """Saves ``content`` with ``torch.save`` atomically.

    Raises:
        OSError: The file cannot be written; an older file stays unchanged.
    """
    with atomic_write(path) as temporary:
        with open(temporary, 'wb') as file:
            write_content(content, file)


def write_content(content: Any, file: BinaryIO) -> None:
    """Saves ``content`` with ``torch.save`` to an open file; raises the error that torch hides.

    Raises:
        OSError: The file cannot be written.
    """
    try:
        torch.save(content, file)
    except RuntimeError as error:
        cause = error.__context__
        if isinstance(cause, OSError):
            raise cause from None
        raise OSError(f'the file could not be written ({error})') from None
