"""A new folder or file, made of several writes, that is either whole or not there."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Union


@contextmanager
def atomic_folder(path: Union[str, Path]) -> Iterator[Path]:
    """Gives an empty temporary folder beside ``path``, and removes it at the end.

    Whoever uses it puts the whole result in place with ``move_new``.

    Args:
        path: What is to be there at the end. The folder that it is in is made if it is missing.

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
    """Puts a whole file or folder in its place, after its content is on the disk.

    Args:
        source: In the same file system.
        path: Must not exist.

    Raises:
        FileExistsError: It does exist; it stays as it is.
    """
    files = [source] if source.is_file() else [p for p in source.rglob('*') if p.is_file()]
    for file in files:
        with open(file, 'rb') as opened:
            os.fsync(opened.fileno())
    if path.exists():
        raise FileExistsError(f'{path} exists by now: nothing of it was changed')
    os.rename(source, path)
