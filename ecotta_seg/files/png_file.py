"""Atomic writes of PNG files, which also detect a full disk."""

from pathlib import Path
from typing import Optional, Union

import cv2
import numpy as np

from .atomic_io import atomic_write


def atomic_write_png(
    path: Union[str, Path], image: np.ndarray, compression: Optional[int] = None
) -> None:
    """Writes a picture as PNG atomically.

    Args:
        path: The file to write. Its folder is created if missing.
        image: (H, W) or (H, W, 3) uint8 or uint16; three channels are BGR.
        compression: zlib's level from 0 to 9; None for OpenCV's default.

    Raises:
        OSError: The file cannot be written; the error names the file.
    """
    options = [] if compression is None else [cv2.IMWRITE_PNG_COMPRESSION, compression]
    # Encoded in memory: on a full disk cv2.imwrite returns False, but a file's write raises.
    _, encoded = cv2.imencode('.png', image, options)
    with atomic_write(path) as temporary:
        temporary.write_bytes(encoded.tobytes())
