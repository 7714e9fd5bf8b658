"""One picture of a frame: image, source mask, adapted mask and label side by side."""

from collections.abc import Sequence
from typing import Optional

import cv2
import numpy as np
from matplotlib.textpath import TextPath
from mmengine.structures import PixelData
from mmengine.visualization import Visualizer
from mmseg.structures import SegDataSample
from mmseg.visualization import SegLocalVisualizer

_MARGIN, _HEADER, _TITLE, _LEGEND_ROW = 12, 34, 28, 26
_FONT_SIZE, _TEXT_COLOUR = 11, (40, 40, 40)
# The visualizer's figure has 100 pixels per inch; a font point is 1/72 inch.
_PIXELS_A_POINT = 100 / 72
_IGNORED = 'ignored'


def condition_panel(
    image: np.ndarray,
    masks: Sequence[tuple[str, np.ndarray]],
    classes: Sequence[str],
    palette: Sequence[Sequence[int]],
    title: str = '',
    width: int = 480,
    legend: Optional[Sequence[int]] = None,
) -> np.ndarray:
    """Draws a frame's image and masks in a row, with a legend.

    mmseg's and mmengine's visualizers draw the panel. All pictures have the same width. Scaling
    does not mix the classes of a mask; pixels of no class are black.

    Args:
        image: (H, W, 3) uint8 RGB, the frame as the model gets it.
        masks: Title and (h, w) integer class indices of each mask, in the order to show.
        classes: C class names.
        palette: C colours (red, green, blue) from 0 to 255.
        title: A line above the row.
        width: The width of each picture in pixels.
        legend: Indices of the classes in the legend, so that all panels have the same size; None
            for the classes in the masks.

    Returns:
        (height, width, 3) uint8 RGB.

    Raises:
        ValueError: A shape or a dtype differs from the above.
    """
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
        raise ValueError(
            f'the image must be (H, W, 3) uint8 RGB, got {image.shape} {image.dtype}; convert '
            'the tensor with .permute(1, 2, 0) and .byte()'
        )
    for name, mask in masks:
        if mask.ndim != 2:
            raise ValueError(f'the mask {name!r} must be (h, w), got {mask.shape}')
    pictures = [scaled_image(image, width)]
    size = pictures[0].shape[1::-1]
    occurring: set[int] = set()
    for _, mask in masks:
        mask = np.where((mask >= 0) & (mask < len(classes)), mask, 255).astype(np.int32)
        occurring |= set(np.unique(mask).tolist())
        pictures.append(mask_picture(mask, classes, palette, size))
    entries = legend_entries(sorted(occurring) if legend is None else legend, classes, palette)
    titles = ['image', *(name for name, _ in masks)]
    return compose(pictures, titles, entries, title)


def scaled_image(image: np.ndarray, width: int) -> np.ndarray:
    """Scales (H, W, 3) uint8 to a width in pixels and keeps the aspect ratio."""
    size = (width, max(1, round(image.shape[0] * width / image.shape[1])))
    shrinks = image.shape[1] > width
    return cv2.resize(image, size, None, 0, 0, cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC)


def legend_entries(
    indices: Sequence[int], classes: Sequence[str], palette: Sequence[Sequence[int]]
) -> list[tuple[str, tuple]]:
    """Name and colour of each class in ``indices``; an index above the last class is no class."""
    return [
        (classes[index], tuple(palette[index])) if index < len(classes) else (_IGNORED, (0, 0, 0))
        for index in indices
    ]


def mask_picture(
    mask: np.ndarray,
    classes: Sequence[str],
    palette: Sequence[Sequence[int]],
    size: tuple[int, int],
) -> np.ndarray:
    """Draws a mask in the colours of its classes.

    Args:
        mask: (h, w) integer class indices; pixels of no class are black.
        classes: C class names.
        palette: C colours (red, green, blue) from 0 to 255.
        size: Width and height of the picture in pixels.

    Returns:
        (height, width, 3) uint8 RGB.
    """
    return _draw_mask(_scale_mask(mask, size), classes, palette)


def _scale_mask(mask: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    # Indexing, because cv2.resize does not support int32 and classes must not mix.
    rows = (np.arange(size[1]) + 0.5) * mask.shape[0] / size[1]
    columns = (np.arange(size[0]) + 0.5) * mask.shape[1] / size[0]
    return mask[rows.astype(int)][:, columns.astype(int)]


def _draw_mask(
    mask: np.ndarray, classes: Sequence[str], palette: Sequence[Sequence[int]]
) -> np.ndarray:
    """Converts (H, W) class indices to (H, W, 3) uint8 RGB."""
    # mmseg draws only class indices below C, so 255 stays black, except for a palette of 256
    # classes. alpha 1: the colours must match the legend.
    visualizer = SegLocalVisualizer(alpha=1.0)
    # Not in the constructor, which swaps these two arguments in some versions of mmseg.
    visualizer.dataset_meta = {'classes': list(classes), 'palette': list(palette)}
    sample = SegDataSample(pred_sem_seg=PixelData(data=mask[None]))
    canvas = np.zeros((*mask.shape, 3), np.uint8)
    visualizer.add_datasample('mask', canvas, sample, draw_gt=False, with_labels=False)
    return visualizer.get_image()


def compose(
    pictures: Sequence[np.ndarray],
    titles: Sequence[str],
    legend: Sequence[tuple[str, tuple]],
    title: str = '',
) -> np.ndarray:
    """Puts pictures of one size in a row, with titles above and a legend below.

    Args:
        pictures: (H, W, 3) uint8 RGB each.
        titles: One title per picture.
        legend: Name and colour of each entry.
        title: A line above the row.

    Returns:
        (height, width, 3) uint8 RGB.
    """
    height, width = pictures[0].shape[:2]
    total = _MARGIN + len(pictures) * (width + _MARGIN)
    places, rows = _place_legend([name for name, _ in legend], total)
    header = _HEADER if title else _MARGIN // 2
    top = header + _TITLE
    legend_top = top + height + _MARGIN
    canvas = np.full((legend_top + rows * _LEGEND_ROW + _MARGIN // 2, total, 3), 255, np.uint8)
    lefts = [_MARGIN + index * (width + _MARGIN) for index in range(len(pictures))]
    for left, picture in zip(lefts, pictures):
        canvas[top : top + height, left : left + width] = picture
    visualizer = Visualizer(image=canvas)

    def write(text: str, x: float, y: float, size: int = _FONT_SIZE) -> None:
        # matplotlib parses text between dollar signs as mathematics.
        visualizer.draw_texts(
            text.replace('$', r'\$'),
            np.array([x, y]),
            font_sizes=size,
            colors=[_TEXT_COLOUR],
            vertical_alignments='center',
        )

    if title:
        write(title, _MARGIN, header / 2 + 4, _FONT_SIZE + 2)
    for left, name in zip(lefts, titles):
        write(name, left, header + _TITLE / 2)
    for (name, colour), (x, row) in zip(legend, places):
        y = legend_top + row * _LEGEND_ROW
        box = np.array([[x, y + 5, x + 22, y + 21]])
        visualizer.draw_bboxes(
            box, edge_colors=[_TEXT_COLOUR], face_colors=[colour], alpha=1, line_widths=1
        )
        write(name, x + 29, y + 13)
    return visualizer.get_image()


def _place_legend(names: Sequence[str], total: int) -> tuple[list[tuple[int, int]], int]:
    """Left edge and row of each entry, and the number of rows."""
    places, x, row = [], _MARGIN, 0
    for name in names:
        step = 50
        if name.strip():  # TextPath does not accept empty text.
            letters = TextPath((0, 0), name.replace('$', r'\$'), size=_FONT_SIZE)
            step += _PIXELS_A_POINT * letters.get_extents().width
        if x > _MARGIN and x + step > total:
            x, row = _MARGIN, row + 1
        places.append((x, row))
        x += round(step)
    return places, row + 1
