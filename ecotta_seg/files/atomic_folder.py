"""Creates a new folder or file atomically, if its content needs several writes."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Union


@contextmanager
def atomic_folder(path: Union[str, Path]) -> Iterator[Path]:
    """Yields an empty temporary folder beside ``path``, and removes this folder at the end.

    The caller moves the complete result to ``path`` with ``move_new``.

    Args:
        path: The final path. Its parent folder is created if missing.

    Yields:
        The temporary folder.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f'.{path.name}.', dir=path.parent))
    try:
        yield temporary
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def move_new(source: Path, path: Path) -> None:
    """Writes the content of a complete file or folder to the disk, and moves it to its final path.

    Args:
        source: The file or folder, in the same file system.
        path: The final path, which must not exist.

    Raises:
        FileExistsError: The path exists; it stays unchanged.
    """
    files = [source] if source.is_file() else [p for p in source.rglob('*') if p.is_file()]
    for file in files:
        with open(file, 'rb') as opened:
            os.fsync(opened.fileno())
    if path.exists():
        raise FileExistsError(f'{path} exists already: it was not changed')
    os.rename(source, path)
