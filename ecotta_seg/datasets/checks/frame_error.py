"""The error for a bad frame, which names the file, the fault and the remedy."""

import io
import struct
import zlib
from typing import Optional

from PIL import Image

_PNG = b'\x89PNG\r\n\x1a\n'
_JPEG = b'\xff\xd8'


class FrameError(ValueError):
    """An image or label file that cannot be used.

    The message is a single sentence that starts with the path. A data loader's worker passes on its
    errors as ``exc_type(text with the worker's traceback)``. This class removes the traceback, so
    that the user reads only the sentence, for any number of workers.

    Attributes:
        path: The file that the error is about.
    """

    def __init__(self, message: str) -> None:
        message = str(message)
        if 'Original Traceback' in message:
            message = message.rpartition(f'{type(self).__name__}: ')[2].strip()
        super().__init__(message)
        self.path = message.partition(': ')[0]

    @classmethod
    def at(cls, path: str, reason: str) -> 'FrameError':
        """Builds the error for ``path``; ``reason`` is the rest of the sentence."""
        error = cls(f'{path}: {reason}')
        error.path = str(path)
        return error


class LabelError(FrameError):
    """A label with wrong ids or size: a mistake in the data set rather than one bad file."""


def check_image_bytes(path: str, content: bytes) -> None:
    """Checks that an encoded image is complete, without decoding the image.

    OpenCV decodes a truncated PNG or JPEG without an error, and the lower part of the picture is
    grey or black. A model would adapt to such a picture. A PNG must have all chunks up to IEND with
    correct checksums. In a JPEG the end marker must follow the scan. For files of other formats the
    function only checks that they are not empty.

    Args:
        path: Path of the file, for the message.
        content: The bytes of the file.

    Raises:
        FrameError: The file is empty, truncated or damaged.
    """
    if not content:
        raise FrameError.at(path, 'the file is empty (0 bytes), copy it again or remove it')
    fault = None
    if content.startswith(_PNG):
        fault = _png_fault(content)
    elif content.startswith(_JPEG):
        fault = _jpeg_fault(content)
    if fault:
        raise FrameError.at(path, f'the file is {fault}, copy it again or remove it')


def png_bit_depth(content: bytes) -> Optional[int]:
    """Bits per sample of a PNG, from its header; None for other formats."""
    # The signature, then the header chunk: length, name, width, height (4 bytes each), bit depth.
    return content[24] if content.startswith(_PNG) and len(content) > 24 else None


def wide_pixel_bits(content: bytes) -> Optional[int]:
    """Bits per sample of a picture in any format of Pillow; None for up to 8 bits."""
    try:
        with Image.open(io.BytesIO(content)) as image:
            mode = image.mode
    except (OSError, SyntaxError, ValueError):
        return None
    return 16 if mode.startswith('I;16') else 32 if mode[:1] in ('I', 'F') else None


def _png_fault(content: bytes) -> Optional[str]:
    position, size = len(_PNG), len(content)
    while position + 12 <= size:
        (length,) = struct.unpack_from('>I', content, position)
        kind = content[position + 4 : position + 8]
        end = position + 12 + length
        if end > size:
            break
        (checksum,) = struct.unpack_from('>I', content, end - 4)
        if zlib.crc32(memoryview(content)[position + 4 : end - 4]) != checksum:
            return f'damaged (the checksum of its PNG chunk at byte {position} is wrong)'
        if kind == b'IEND':
            return None
        position = end
    return f'truncated (a PNG that ends after {size} bytes without its end marker)'


def _jpeg_fault(content: bytes) -> Optional[str]:
    position, size = len(_JPEG), len(content)
    # Skip to the scan: a thumbnail inside an Exif segment has its own end markers.
    while position + 4 <= size and content[position] == 0xFF and content[position + 1] != 0xDA:
        if content[position + 1] == 0xFF:  # Fill byte.
            position += 1
            continue
        (length,) = struct.unpack_from('>H', content, position + 2)
        position += 2 + length
    if content.find(b'\xff\xd9', min(position, size)) < 0:
        return f'truncated (a JPEG that ends after {size} bytes without its end marker)'
    return None
