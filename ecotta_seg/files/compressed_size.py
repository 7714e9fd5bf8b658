"""The size of a file after compression; the zeros of a sparse network take almost no room."""

import zlib
from pathlib import Path
from typing import Union


def compressed_size(path: Union[str, Path]) -> int:
    """Returns the number of bytes of a file after deflate, the compression of zip and gzip.

    Raises:
        OSError: The file cannot be read.
    """
    deflate, size = zlib.compressobj(), 0
    with open(path, 'rb') as file:
        while block := file.read(1 << 20):
            size += len(deflate.compress(block))
    return size + len(deflate.flush())
