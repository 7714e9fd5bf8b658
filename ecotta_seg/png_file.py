"""PNG files that are either whole or not there, on a full disk too."""

from pathlib import Path
from typing import Optional, Union

import cv2
import numpy as np

from .atomic_io import atomic_write


def atomic_write_png(
    path: Union[str, Path], image: np.ndarray, compression: Optional[int] = None
) -> None:
    """Writes a picture as PNG, whole or not at all.

    Args:
        path: The file to write. Its folder is made if it is missing.
        image: (H, W) or (H, W, 3) uint8 or uint16; three channels are BGR.
        compression: zlib's level from 0 to 9; None for OpenCV's default.

    Raises:
        OSError: The file cannot be written; it names the file.
    """
    options = [] if compression is None else [cv2.IMWRITE_PNG_COMPRESSION, compression]
    # Encoded in memory: cv2.imwrite answers a full disk with False, a file's write with an error.
    _, encoded = cv2.imencode('.png', image, options)
    with atomic_write(path) as temporary:
        temporary.write_bytes(encoded.tobytes())
