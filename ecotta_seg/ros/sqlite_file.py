"""Whether a database of SQLite is whole: a reader takes what is missing at its end for zeros."""

import struct
from pathlib import Path
from typing import Optional

_MAGIC = b'SQLite format 3\0'


def sqlite_fault(path: Path) -> Optional[str]:
    """What is wrong with a database file, by its header and its size, or None.

    Args:
        path: The file.

    Returns:
        The rest of a sentence that begins with the file.
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
