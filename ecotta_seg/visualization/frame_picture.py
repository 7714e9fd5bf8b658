"""The picture of a frame, its name, and colours for its classes."""

import colorsys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch

_SUFFIXES = ('_leftImg8bit', '_rgb_anon')


def rgb_image(image: torch.Tensor) -> np.ndarray:
    """Converts a packed (C, H, W) image to (H, W, 3) uint8 RGB for display.

    The first three channels are BGR, as mmcv loads them. With fewer channels the first one is shown
    in grey. Values outside 0 to 255 (and values from 0 to 1) are scaled to this range.
    """
    image = image.detach().to('cpu', torch.float32).nan_to_num(0.0, 0.0, 0.0)
    image = image[:3] if image.shape[0] >= 3 else image[:1].expand(3, -1, -1)
    low, high = float(image.min()), float(image.max())
    if low < 0 or high > 255 or (0 < high <= 1):
        image = (image - low) * (255 / max(high - low, 1e-12))
    image = image.clamp(0, 255).byte()
    return np.ascontiguousarray(image.permute(1, 2, 0).numpy()[..., ::-1])


def frame_name(info: Mapping) -> str:
    """``<sequence>_<frame>``, or ``<frame>`` if this begins with the sequence's name already."""
    sequence = str(info.get('sequence', ''))
    frame = Path(str(info.get('img_path') or info.get('stream_index', 0))).stem
    for suffix in _SUFFIXES:
        frame = frame[: -len(suffix)] if frame.endswith(suffix) else frame
    if not sequence or frame == sequence or frame.startswith(f'{sequence}_'):
        return frame
    return f'{sequence}_{frame}'


def distinct_colours(num_classes: int) -> list[tuple]:
    """Colours for a data set without a palette: evenly spaced hues, alternately light and dark."""
    colours = [
        colorsys.hsv_to_rgb(i / num_classes, 0.75, 0.95 if i % 2 else 0.6)
        for i in range(num_classes)
    ]
    return [tuple(round(255 * value) for value in colour) for colour in colours]
