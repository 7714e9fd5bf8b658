"""One error for one bad frame: which file, what is wrong, what to do."""

import io
import struct
import zlib
from typing import Optional

from PIL import Image

_PNG = b'\x89PNG\r\n\x1a\n'
_JPEG = b'\xff\xd8'


class FrameError(ValueError):
    """An image or label file that cannot be used.

    The message is a single sentence that starts with the path. A data loader's worker hands its
    errors on as ``exc_type(text with the worker's traceback)``; the traceback is cut off again
    here, so that the user reads the sentence alone whatever the number of workers.

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
        """Makes the error about ``path``, ``reason`` being the rest of the sentence."""
        error = cls(f'{path}: {reason}')
        error.path = str(path)
        return error


class LabelError(FrameError):
    """A label whose ids or size are wrong: a mistake in the data set rather than one bad file."""


def check_image_bytes(path: str, content: bytes) -> None:
    """Checks that an encoded image is whole, without decoding it.

    OpenCV decodes a cut-off PNG or JPEG into a picture whose lower part is grey or black and
    says nothing; a model would adapt to that. PNG: every chunk is there with the right
    checksum, up to IEND. JPEG: the end marker follows the scan. Other formats: not empty.

    Args:
        path: Where ``content`` came from, for the message.
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
    """Bits a sample of a PNG, from its header; None for other formats."""
    # Signature, then the header chunk: length, name, width, height (four bytes each), bit depth.
    return content[24] if content.startswith(_PNG) and len(content) > 24 else None


def wide_pixel_bits(content: bytes) -> Optional[int]:
    """Bits a sample of a picture in any format that Pillow knows, where it is more than 8."""
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
    # Walk to the scan: a thumbnail inside an Exif segment has end markers of its own.
    while position + 4 <= size and content[position] == 0xFF and content[position + 1] != 0xDA:
        if content[position + 1] == 0xFF:  # Fill byte.
            position += 1
            continue
        (length,) = struct.unpack_from('>H', content, position + 2)
        position += 2 + length
    if content.find(b'\xff\xd9', min(position, size)) < 0:
        return f'truncated (a JPEG that ends after {size} bytes without its end marker)'
    return None
