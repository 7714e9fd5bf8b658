"""A digest that identifies the content of a file."""

import hashlib
from pathlib import Path
from typing import Union


def file_digest(path: Union[str, Path]) -> str:
    """Returns the first 16 hexadecimal digits of a file's SHA-256.

    Raises:
        OSError: The file cannot be read.
    """
    digest = hashlib.sha256()
    with open(path, 'rb') as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()[:16]
