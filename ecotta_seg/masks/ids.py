"""The pixel values of a mask file: train ids, Cityscapes' label ids, or colours."""

from collections.abc import Sequence
from typing import Optional

import numpy as np

from ..names.choices import MASK_FORMATS
from ..names.class_names import NO_CLASS, plain_name

# cityscapesscripts/helpers/labels.py: the ids of the 19 classes that are evaluated.
_LABEL_IDS = {
    'road': 7, 'sidewalk': 8, 'building': 11, 'wall': 12, 'fence': 13, 'pole': 17,
    'traffic light': 19, 'traffic sign': 20, 'vegetation': 21, 'terrain': 22, 'sky': 23,
    'person': 24, 'rider': 25, 'car': 26, 'truck': 27, 'bus': 28, 'train': 31, 'motorcycle': 32,
    'bicycle': 33,
}  # fmt: skip
CITYSCAPES_CLASSES = tuple(_LABEL_IDS)
UNLABELED = 0
"""Cityscapes' label id of a pixel without a class."""


def label_ids_of(classes: Sequence[str]) -> list[int]:
    """Returns Cityscapes' label id of each class.

    Args:
        classes: Names, in the order of the train ids.

    Raises:
        ValueError: Cityscapes evaluates no class of a given name.
    """
    unknown = [name for name in classes if plain_name(name) not in _LABEL_IDS]
    if unknown:
        raise ValueError(
            'label ids belong to Cityscapes, which has no class '
            f'{", ".join(map(str, unknown[:5]))}: write train_ids or colours'
        )
    return [_LABEL_IDS[plain_name(name)] for name in classes]


class MaskEncoder:
    """Converts a mask of train ids to the pixels of a PNG file.

    Args:
        mask_format: One of ``MASK_FORMATS``.
        classes: C class names, in the order of the train ids.
        palette: C colours (red, green, blue) from 0 to 255; for ``'colours'`` only.

    Raises:
        ValueError: The format is unknown, there are more than 255 classes, Cityscapes has no label
            id for a class, or the palette does not have a colour for each class.
    """

    def __init__(
        self,
        mask_format: str,
        classes: Sequence[str],
        palette: Optional[Sequence[Sequence[int]]] = None,
    ) -> None:
        if mask_format not in MASK_FORMATS:
            raise ValueError(
                f'expected one of {", ".join(MASK_FORMATS)} as the format of masks, got '
                f'{mask_format!r}'
            )
        number = len(classes)
        if number > NO_CLASS:
            raise ValueError(
                f'masks of 8 bits hold up to {NO_CLASS} classes, but the data set has {number}'
            )
        if mask_format == 'colours':
            if palette is None or len(palette) != number:
                raise ValueError(
                    'colours need a palette with a colour for each class, and the data set has '
                    'none: write train_ids'
                )
            self._table = np.zeros((NO_CLASS + 1, 3), np.uint8)
            self._table[:number] = np.asarray(palette, np.uint8)[:, ::-1]
        else:
            ids = range(number) if mask_format == 'train_ids' else label_ids_of(classes)
            none = NO_CLASS if mask_format == 'train_ids' else UNLABELED
            self._table = np.full(NO_CLASS + 1, none, np.uint8)
            self._table[:number] = list(ids)

    def encode(self, mask: np.ndarray) -> np.ndarray:
        """Returns the pixels of the mask's file.

        Args:
            mask: (H, W) integer train ids. An id outside the data set's classes becomes 255 in
                train ids, 0 in label ids and black in colours.

        Returns:
            (H, W) uint8, or (H, W, 3) uint8 BGR for colours.
        """
        known = np.where((mask >= 0) & (mask < NO_CLASS), mask, NO_CLASS)
        return self._table[known]
