"""File names made from names that a data set gives."""

import hashlib
import re

_LONGEST = 80


def safe_file_name(name: object) -> str:
    """A single file or folder name for any text: no separators, no dots in front, not too long.

    Letters, digits, ``.``, ``_`` and ``-`` stay. A name that had to be changed gets a few digits
    of its hash at the end, so that two names never become one.
    """
    name = str(name)
    safe = re.sub(r'[^A-Za-z0-9._-]+', '_', name).lstrip('.')[:_LONGEST].rstrip('.')
    if safe == name and safe:
        return safe
    digest = hashlib.sha256(name.encode('utf-8', 'backslashreplace')).hexdigest()[:8]
    return f'{safe}-{digest}' if safe else digest
