"""Writes and reads state files; reading verifies the checksum and runs no code from the file."""

import hashlib
import io
from pathlib import Path
from typing import Any, BinaryIO, Union

import numpy as np
import torch

from ..files.atomic_io import atomic_write
from ..files.torch_file import write_content

_MARK = b'ecotta_seg state 1\n'
_DIGEST_BYTES = hashlib.sha256().digest_size


class StateFileError(ValueError):
    """A state file is missing, truncated, damaged, or not a file of this package."""


class _DigestingWriter:
    """Passes bytes on to a file and computes their digest, without a second copy in memory."""

    def __init__(self, file: BinaryIO) -> None:
        self.file = file
        self.digest = hashlib.sha256()

    def write(self, content: bytes) -> int:
        self.digest.update(content)
        return self.file.write(content)

    def flush(self) -> None:
        self.file.flush()


def plain(value: Any) -> Any:
    """Copies nested containers of tensors, numbers, strings and None to types that load safely.

    NumPy arrays become tensors, and NumPy scalars become numbers.

    Raises:
        TypeError: The value contains another type.
    """
    if value is None or isinstance(value, (bool, torch.Tensor)):
        return value
    # Subclasses (such as numpy.float64 and torch's version string) could not load without their
    # class.
    for kind in (str, int, float):
        if isinstance(value, kind):
            return kind(value)
    if isinstance(value, dict):
        return {plain(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        items = [plain(item) for item in value]
        return items if isinstance(value, list) else tuple(items)
    if isinstance(value, np.ndarray):
        return torch.from_numpy(value.astype(np.int64) if value.dtype == np.uint32 else value)
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(
        f'a state holds tensors, numbers, strings and containers of them, not a '
        f'{type(value).__name__}'
    )


def write_state(state: dict, path: Union[str, Path]) -> int:
    """Writes a state atomically, followed by a mark and the SHA-256 of the state.

    torch's own reader does not verify the checksums of its archive.

    Args:
        state: See :func:`plain`.
        path: The file.

    Returns:
        The file's size in bytes.

    Raises:
        TypeError: See :func:`plain`.
        OSError: The file cannot be written; an older file stays unchanged.
    """
    state = plain(state)
    with atomic_write(path) as temporary:
        with open(temporary, 'wb') as file:
            writer = _DigestingWriter(file)
            write_content(state, writer)
            file.write(_MARK + writer.digest.digest())
        return temporary.stat().st_size


def read_state(path: Union[str, Path]) -> dict:
    """Reads a file that :func:`write_state` wrote, with all tensors on the CPU; runs no code in it.

    Raises:
        StateFileError: The file is missing, truncated, damaged, or not a state.
    """
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise StateFileError(f'{path}: {error.strerror or type(error).__name__}') from None
    tail = len(_MARK) + _DIGEST_BYTES
    payload, mark = content[:-tail], content[-tail:-_DIGEST_BYTES]
    if len(content) <= tail or mark != _MARK:
        raise StateFileError(f'{path} is cut off or not a state file ({len(content)} bytes)')
    if hashlib.sha256(payload).digest() != content[-_DIGEST_BYTES:]:
        raise StateFileError(f'{path} is damaged (its checksum is wrong)')
    try:
        state = torch.load(io.BytesIO(payload), map_location='cpu', weights_only=True)
    except Exception as error:  # A crafted file with a correct checksum can raise anything.
        raise StateFileError(
            f'{path} was refused: it holds more than tensors and numbers ({type(error).__name__})'
        ) from None
    if not isinstance(state, dict):
        raise StateFileError(f'{path} is not a state file')
    return state
