"""State on disk that is known to be whole before it is believed, and runs no code when loaded."""

import hashlib
import io
from pathlib import Path
from typing import Any, BinaryIO, Union

import numpy as np
import torch

from .atomic_io import atomic_write

_MARK = b'ecotta_seg state 1\n'
_DIGEST_BYTES = hashlib.sha256().digest_size


class StateFileError(ValueError):
    """A state file is missing, cut off, damaged, or not one of ours."""


class _DigestingWriter:
    """Passes bytes on to a file and digests them on the way: no second copy in memory."""

    def __init__(self, file: BinaryIO) -> None:
        self.file = file
        self.digest = hashlib.sha256()

    def write(self, content: bytes) -> int:
        self.digest.update(content)
        return self.file.write(content)

    def flush(self) -> None:
        self.file.flush()


def plain(value: Any) -> Any:
    """Nested containers of tensors, numbers, strings and None, copied; what loads safely.

    NumPy arrays become tensors, NumPy scalars numbers.

    Raises:
        TypeError: Something else is in it.
    """
    if value is None or isinstance(value, (bool, torch.Tensor)):
        return value
    # Subclasses (numpy.float64 and torch's version string are some) would need their class.
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
    """Writes a state, whole or not at all, followed by a mark and its SHA-256.

    torch's own reader does not check the checksums of its archive.

    Args:
        state: See :func:`plain`.
        path: The file.

    Returns:
        Its size in bytes.

    Raises:
        TypeError: See :func:`plain`.
        OSError: It cannot be written; what was there before is untouched.
    """
    state = plain(state)
    with atomic_write(path) as temporary:
        with open(temporary, 'wb') as file:
            writer = _DigestingWriter(file)
            try:
                torch.save(state, writer)
            except RuntimeError as error:
                # torch's archive writer hides the error of the file below it.
                cause = error.__context__
                if isinstance(cause, OSError):
                    raise cause from None
                raise OSError(f'{path}: the state could not be written ({error})') from None
            file.write(_MARK + writer.digest.digest())
        return temporary.stat().st_size


def read_state(path: Union[str, Path]) -> dict:
    """Reads what :func:`write_state` wrote, tensors on the CPU; no code in it is run.

    Raises:
        StateFileError: The file is missing, cut off, damaged, or not a state.
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
    except Exception as error:  # A crafted file with a right checksum: anything can come out.
        raise StateFileError(
            f'{path} was refused: it holds more than tensors and numbers ({type(error).__name__})'
        ) from None
    if not isinstance(state, dict):
        raise StateFileError(f'{path} is not a state file')
    return state
