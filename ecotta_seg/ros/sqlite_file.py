"""Checks that an SQLite file is complete; a reader would take missing bytes at its end as 0."""

import struct
from pathlib import Path
from typing import Optional

_MAGIC = b'SQLite format 3\0'


def sqlite_fault(path: Path) -> Optional[str]:
    """Finds a fault in a database file from its header, its size and the files beside it.

    Args:
        path: The file.

    Returns:
        The fault as the rest of a sentence that begins with the file's name; None if there is none.
    """
    for ending in ('-wal', '-journal'):
        beside = path.with_name(path.name + ending)
        if beside.is_file() and beside.stat().st_size:
            return f'was not closed by its recorder: {beside.name} still has messages of it'
    with open(path, 'rb') as file:
        head = file.read(100)
    if len(head) < 100 or not head.startswith(_MAGIC):
        return f'is cut off or no database ({path.stat().st_size} bytes)'
    # https://www.sqlite.org/fileformat.html, "The Database Header": big-endian, 1 is 65536.
    (page,) = struct.unpack_from('>H', head, 16)
    changes, pages = struct.unpack_from('>II', head, 24)
    (valid_for,) = struct.unpack_from('>I', head, 92)
    size = (65536 if page == 1 else page) * pages
    if changes == valid_for and pages and path.stat().st_size < size:
        return f'is cut off: {path.stat().st_size} of {size} bytes are there'
    return None
