"""Atomic writes of files: write a temporary file beside the target, then rename it."""

import errno
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Union


@contextmanager
def atomic_write(path: Union[str, Path]) -> Iterator[Path]:
    """Yields a temporary path beside ``path`` and renames it to ``path`` on success.

    A reader sees the old file or the new one, never a part of one. If the body raises, the old
    file stays and the temporary one is removed.

    Args:
        path: The file to write. Its folder is created if missing.

    Yields:
        The path to write to, in the same folder, with the same suffix (which determines the format
        of image writers).

    Raises:
        OSError: The folder cannot be created or written to, or ``path`` is a device or a pipe; the
            error names ``path``.
    """
    path = Path(path)
    refuse_device(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        handle, name = tempfile.mkstemp(
            prefix=f'.{path.stem}.', suffix=path.suffix, dir=path.parent
        )
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from None
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        with open(temporary, 'rb') as file:
            # Without this a power cut after the rename can leave an empty file.
            os.fsync(file.fileno())
        # mkstemp gives only the owner access; results get the access that the umask allows.
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)
        os.replace(temporary, path)
    except OSError as error:
        # For a full disk the system names no file, for other errors the temporary one.
        if error.errno is None or error.filename not in (None, name):
            raise
        raise OSError(error.errno, error.strerror, str(path)) from None
    finally:
        temporary.unlink(missing_ok=True)


def refuse_device(path: Union[str, Path]) -> None:
    """Raises if a path is a device or a pipe: a rename would put a file in its place.

    Args:
        path: The file to write; need not exist.

    Raises:
        OSError: The path exists and is neither a file nor a folder.
    """
    if os.path.exists(path) and not os.path.isfile(path) and not os.path.isdir(path):
        raise OSError(
            errno.EINVAL, 'expected the path of a file, got a device or a pipe', str(path)
        )


def atomic_write_text(path: Union[str, Path], text: str) -> None:
    """Writes ``text`` as UTF-8 to ``path`` atomically."""
    with atomic_write(path) as temporary:
        temporary.write_text(text, encoding='utf-8')
