"""Overlays a mask on its frame."""

from collections.abc import Sequence
from typing import Optional

import numpy as np

from .condition_panel import compose, legend_entries, mask_picture, scaled_image


def overlay_panel(
    image: np.ndarray,
    mask: np.ndarray,
    classes: Sequence[str],
    palette: Sequence[Sequence[int]],
    title: str = '',
    width: int = 960,
    legend: Optional[Sequence[int]] = None,
    opacity: float = 0.5,
) -> np.ndarray:
    """Draws a frame with its mask as a colour overlay, with a legend.

    Args:
        image: (H, W, 3) uint8 RGB.
        mask: (h, w) integer class indices; pixels of no class show only the frame.
        classes: C class names.
        palette: C colours (red, green, blue) from 0 to 255.
        title: A line above the picture.
        width: Width of the picture in pixels.
        legend: Indices of the classes in the legend; None for the classes in the mask.
        opacity: Opacity of the mask's colours, 0 to 1.

    Returns:
        (height, width, 3) uint8 RGB.
    """
    picture = scaled_image(image, width)
    size = picture.shape[1::-1]
    ids = np.where((mask >= 0) & (mask < len(classes)), mask, 255).astype(np.int32)
    colours = mask_picture(ids, classes, palette, size)
    # Drawn as a mask, so that both are scaled in the same way.
    known = mask_picture(
        (ids == 255).astype(np.int32), ['class', 'none'], [[255] * 3, [0] * 3], size
    )
    share = opacity * (known / 255.0)
    mixed = np.rint((1 - share) * picture + share * colours).astype(np.uint8)
    occurring = np.unique(ids).tolist() if legend is None else legend
    return compose([mixed], [''], legend_entries(occurring, classes, palette), title)
