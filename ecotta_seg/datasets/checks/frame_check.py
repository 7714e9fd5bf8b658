"""Detects camera faults in frames: black, white, saturated, noise, frozen, other sizes."""

import hashlib
from math import sqrt
from typing import Optional

import torch
import torch.nn.functional as F
from torch import Tensor

# Limits of dark and bright pixel values, out of 255. A night frame contains lamps; a frame from a
# covered lens does not.
_DARK, _BRIGHT = 4, 251
_NEARLY_ALL = 0.995
_SATURATED = 0.9
# The least correlation of neighbouring pixels. It is 0.95 and more in pictures, 0.7 in the heaviest
# synthetic snow, and 0 in noise.
_LEAST_CORRELATION = 0.4
# The least correlation of neighbouring cells, for larger and larger cells until 8 rows of cells are
# left. It is 0.6 and more in pictures, also at night, and 0 in noise with grains larger than
# pixels.
_LEAST_COARSE_CORRELATION, _FEWEST_CELLS = 0.2, 8
_NEW_SIZE_AFTER = 3


def neighbour_correlation(image: Tensor) -> tuple[float, float]:
    """Correlates the brightness of pixels with their right and with their lower neighbours.

    Args:
        image: (C, H, W), any range. The correlation of a constant image is undefined and counts
            as 1.

    Returns:
        Two numbers from -1 to 1.
    """
    return _correlations(_grey(image))


def _grey(image: Tensor) -> Tensor:
    """(H, W): the mean of the channels."""
    return image.sum(0, dtype=torch.float32).div_(len(image))


def _correlations(grey: Tensor) -> tuple[float, float]:
    """Correlations of (H, W) brightness in both directions, with shared intermediate results."""
    grey = grey - grey.mean()
    squares = grey.square()
    return _correlation(grey.T, squares.T), _correlation(grey, squares)


def _correlation(grey: Tensor, squares: Tensor) -> float:
    """Correlation of each row's pixels with the pixels of the next row."""
    first, second = float(grey[:-1].mean()), float(grey[1:].mean())
    product = float((grey[:-1] * grey[1:]).mean()) - first * second
    variances = float(squares[:-1].mean()) - first**2, float(squares[1:].mean()) - second**2
    scale = sqrt(max(0.0, variances[0] * variances[1]))
    return product / scale if scale > 1e-6 else 1.0


def noise_fault(image: Tensor) -> Optional[str]:
    """Detects noise in single pixels, in whole rows or columns, or in larger grains.

    Args:
        image: (C, H, W), any range, at least 2 pixels high and wide.

    Returns:
        The fault as a sentence, or None if the frame is not noise.
    """
    cells, size = _grey(image), 1
    correlation = min(_correlations(cells))
    if correlation < _LEAST_CORRELATION:
        return f'the frame is noise (neighbouring pixels correlate by {correlation:.2f} only)'
    while min(cells.shape) >= 2 * _FEWEST_CELLS:
        cells, size = F.avg_pool2d(cells[None, None], 2)[0, 0], 2 * size
        correlation = sum(_correlations(cells)) / 2
        if correlation < _LEAST_COARSE_CORRELATION:
            return (
                f'the frame is noise (neighbouring cells of {size}x{size} pixels correlate by '
                f'{correlation:.2f} only)'
            )
    return None


def image_fault(image: Tensor) -> Optional[str]:
    """Returns the fault of one frame by itself, or None.

    Args:
        image: (C, H, W), as packed for the model. Brightness is checked only for values from 0 to
            255. For other ranges only checks that do not depend on the range are made.
    """
    if image.dim() != 3 or not image.shape[0]:
        return f'the frame has the shape {tuple(image.shape)} but (C, H, W) is expected'
    if min(image.shape[1:]) < 2:
        return f'the frame is only {image.shape[2]}x{image.shape[1]} pixels'
    if image.is_floating_point() and not image.isfinite().all():
        return 'the frame holds values that are not finite'
    if not image.any():
        return 'the frame is all black'
    # Every second row and column is enough, in a quarter of the time.
    sample = image[:, ::2, ::2].contiguous()
    if not _in_bytes(sample):
        if bool((sample == sample[:, :1, :1]).all()):
            return 'the frame has one colour'
        return noise_fault(image)
    darkest, brightest = sample.amin(0), sample.amax(0)
    dark = float((brightest < _DARK).float().mean())
    bright = float((darkest > _BRIGHT).float().mean())
    if dark >= _NEARLY_ALL:
        return 'the frame is all black'
    if bright >= _NEARLY_ALL:
        return 'the frame is all white'
    if bright >= _SATURATED:
        return f'the frame is saturated ({bright:.0%} of its pixels are white)'
    spread = float(sample.float().std(correction=0))
    if spread < 1:
        return 'the frame has one colour'
    ends = float(((sample <= 0) | (sample >= 255)).float().mean())
    if ends >= _SATURATED:
        return f'the frame is saturated ({ends:.0%} of its values are at an end of the range)'
    return noise_fault(image)


def _in_bytes(image: Tensor) -> bool:
    """Whether values appear to range from 0 to 255 and not from 0 to 1."""
    if image.dtype == torch.uint8:
        return True
    low, high = (float(end) for end in image.aminmax())
    return low >= 0 and 1 < high <= 255


class FrameChecker:
    """Checks the frames of one stream, each by itself and against earlier frames.

    If a frame has exactly the pixels of the frame before, it is frozen, unless both come from the
    same file. If a frame has another size than the stream, the size is a fault. After three frames
    in a row with the same new size, the third one is no fault, and this size becomes the stream's
    size.

    Args:
        sizes_differ: If True, frames may have any size.
    """

    def __init__(self, sizes_differ: bool = False) -> None:
        self.sizes_differ = sizes_differ
        self._last: tuple = (None, None)
        self._size: Optional[list[int]] = None
        self._other: tuple = (None, 0)

    def check(self, image: Tensor, name: Optional[str] = None) -> Optional[str]:
        """Returns the fault of the stream's next frame, or None.

        Args:
            image: See :func:`image_fault`.
            name: File of the frame, or None.
        """
        # Frames come from the CPU; only a frame on another device is copied.
        image = image.detach().cpu()
        content = image.contiguous().view(torch.uint8) if image.numel() else image
        digest = hashlib.blake2b(content.numpy(), digest_size=16).hexdigest()
        last, self._last = self._last, (digest, name)
        fault = image_fault(image)
        if fault is None and last[0] == digest and (name is None or last[1] != name):
            fault = 'the frame is frozen (the same pixels as the one before)'
        if fault or self.sizes_differ:
            return fault
        return self._size_fault([int(side) for side in image.shape[1:]])

    def _size_fault(self, size: list[int]) -> Optional[str]:
        if self._size is None:
            self._size = size
        if size == self._size:
            self._other = (None, 0)
            return None
        count = self._other[1] + 1 if self._other[0] == size else 1
        if count >= _NEW_SIZE_AFTER:
            self._size, self._other = size, (None, 0)
            return None
        self._other = (size, count)
        return (
            f'the frame is {size[1]}x{size[0]} pixels, but the stream has '
            f'{self._size[1]}x{self._size[0]}; if sizes may differ, set sizes_differ=True'
        )

    def state_dict(self) -> dict:
        """The data with which the next frame is compared."""
        return {'last': list(self._last), 'size': self._size, 'other': list(self._other)}

    def load_state_dict(self, state: dict) -> None:
        """Restores a result of ``state_dict``."""
        self._last, self._other = tuple(state['last']), tuple(state['other'])
        self._size = state['size']
