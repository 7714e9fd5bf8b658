"""Safe file names from the names of a data set."""

import hashlib
import re

_LONGEST = 80


def safe_file_name(name: object) -> str:
    """Returns a file or folder name for any text: no separators, no leading dots, limited length.

    Letters, digits, ``.``, ``_`` and ``-`` stay. A changed name gets a few digits of its hash at
    the end, so that two names never become the same.
    """
    name = str(name)
    safe = re.sub(r'[^A-Za-z0-9._-]+', '_', name).lstrip('.')[:_LONGEST].rstrip('.')
    if safe == name and safe:
        return safe
    digest = hashlib.sha256(name.encode('utf-8', 'backslashreplace')).hexdigest()[:8]
    return f'{safe}-{digest}' if safe else digest
