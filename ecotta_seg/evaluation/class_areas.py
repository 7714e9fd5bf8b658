"""Pixel areas per class and the scores from these areas, as pure functions.

C is the number of classes; H and W are the label's height and width in pixels.
"""

from collections.abc import Iterable, Sequence
from typing import Optional

import torch
from torch import Tensor

INTERSECTION, PREDICTED, LABELLED = range(3)
"""Rows of an areas tensor."""

# Labels nearly always have 8 bits; larger ids would make the table of counts needlessly large.
_MOST_ROWS = 1023
MEAN_OVER = ('labelled', 'occurring')


def class_areas(
    prediction: Tensor, label: Tensor, num_classes: int, ignore_index: int = 255
) -> Tensor:
    """Counts the pixels of each class in one frame, without ignored pixels.

    Args:
        prediction: (H, W) integer class indices. An index outside ``[0, C)`` counts as wrong but
            not in any predicted area, as in mmseg's ``IoUMetric``.
        label: (H, W) integer class indices in ``[0, C)``, or ``ignore_index``.
        num_classes: C.
        ignore_index: The label of pixels that are not scored.

    Returns:
        (3, C) int64 on the CPU, in pixels. The rows are the intersection of prediction and label,
        the predicted area and the labelled area.

    Raises:
        ValueError: The sizes differ, or the label holds an unknown index.
    """
    return areas_of(confusion_counts(prediction, label, num_classes, ignore_index))


def areas_of(confusion: Tensor) -> Tensor:
    """Computes the areas from confusion counts.

    Args:
        confusion: (C, C + 1) int64 pixels, from ``confusion_counts``.

    Returns:
        (3, C) int64 pixels, see ``class_areas``.
    """
    classes = confusion[:, :-1]
    return torch.stack([classes.diagonal(), classes.sum(0), confusion.sum(1)])


def confusion_counts(
    prediction: Tensor, label: Tensor, num_classes: int, ignore_index: int = 255
) -> Tensor:
    """Counts the pixels of each label and prediction in one frame, without ignored pixels.

    Args and Raises: See ``class_areas``.

    Returns:
        (C, C + 1) int64 pixels on the CPU. Rows are labels and columns are predictions; the last
        column counts predictions outside ``[0, C)``.
    """
    if prediction.shape != label.shape:
        raise ValueError(
            f'the label is {tuple(label.shape)} (H, W) but the prediction is '
            f'{tuple(prediction.shape)}; give labels at the size of the original image'
        )
    if not label.numel():
        return torch.zeros(num_classes, num_classes + 1, dtype=torch.int64)
    # Ignored pixels are counted in a separate row, which is dropped: ten times as fast as selecting
    # the other pixels of a large frame.
    low, high = (int(end) for end in label.aminmax())
    if low < 0 or high > _MOST_ROWS:
        ids = {int(i) for i in label.unique()} - {ignore_index}
        _check_ids(ids, num_classes, ignore_index)
        label = label.masked_fill(label == ignore_index, num_classes)
        high, ignore_index = num_classes, num_classes
    low_prediction, high_prediction = (int(end) for end in prediction.aminmax())
    if low_prediction < 0 or high_prediction > num_classes:
        outside = (prediction < 0) | (prediction > num_classes)
        prediction = prediction.masked_fill(outside, num_classes)
    rows, columns = max(high + 1, num_classes), num_classes + 1
    cells = label.to(torch.int32) * columns + prediction.to(torch.int32)
    confusion = torch.bincount(cells.flatten(), minlength=rows * columns).cpu()
    confusion = confusion.reshape(rows, columns)
    if 0 <= ignore_index < rows:
        confusion[ignore_index] = 0
    _check_ids(confusion.sum(1).nonzero().flatten().tolist(), num_classes, ignore_index)
    return confusion[:num_classes]


def _check_ids(ids: Iterable[int], num_classes: int, ignore_index: int) -> None:
    unknown = sorted(i for i in ids if not 0 <= i < num_classes)
    if unknown:
        raise ValueError(
            f'the label holds the unknown ids {unknown}, expected 0 to {num_classes - 1} or '
            f'{ignore_index} for ignored pixels; use train-id labels or map the ids'
        )


def intersection_over_union(areas: Tensor) -> Tensor:
    """Computes IoU per class as in mmseg: 0 if a class is predicted but never labelled.

    Args:
        areas: (3, C) int64 pixels, summed over any number of frames.

    Returns:
        (C,) float64 in percent; NaN if the class is neither predicted nor labelled.
    """
    intersection = areas[INTERSECTION].double()
    union = areas[PREDICTED] + areas[LABELLED] - areas[INTERSECTION]
    return 100 * intersection / union.double()


def mean_iou(areas: Tensor, mean_over: str = 'labelled') -> Optional[float]:
    """Computes the mean IoU in percent over the classes that occur.

    Args:
        areas: (3, C) int64 pixels.
        mean_over: ``'labelled'``: over the classes that occur in the labels.
            ``'occurring'``: over the classes that occur in the labels or the predictions, as in
            mmseg's ``IoUMetric``. One wrong pixel of a class that the data set lacks then adds a 0
            to the mean. Both are equal if every predicted class is labelled somewhere.

    Returns:
        The mean, or None if no pixel is labelled.
    """
    counted = counted_classes(areas, mean_over)
    if not areas[LABELLED].any():
        return None
    return float(intersection_over_union(areas)[counted].mean())


def counted_classes(areas: Tensor, mean_over: str = 'labelled') -> Tensor:
    """Returns (C,) bool: True for the classes that the mean IoU of (3, C) ``areas`` includes."""
    if mean_over == 'occurring':
        return (areas[LABELLED] + areas[PREDICTED]) > 0
    return areas[LABELLED] > 0


def scores(areas: Tensor, classes: Sequence[str], mean_over: str = 'labelled') -> dict:
    """Computes all scores of one set of frames, for JSON.

    Args:
        areas: (3, C) int64 pixels, summed over the frames.
        classes: C class names.
        mean_over: See :func:`mean_iou`.

    Returns:
        ``mIoU`` and ``aAcc`` in percent (None without a labelled pixel), ``IoU`` by class name
        (None if a class is neither labelled nor predicted) and ``left_out``, the names of the
        classes that the mean excludes.
    """
    labelled = int(areas[LABELLED].sum())
    iou = intersection_over_union(areas).tolist()
    counted = counted_classes(areas, mean_over).tolist()
    return {
        'mIoU': mean_iou(areas, mean_over),
        'aAcc': 100 * int(areas[INTERSECTION].sum()) / labelled if labelled else None,
        'IoU': {name: None if value != value else value for name, value in zip(classes, iou)},
        'left_out': [name for name, keep in zip(classes, counted) if not keep],
    }


def mean_of(values: Sequence[Optional[float]]) -> Optional[float]:
    """Returns the mean of the values that are not None; None if all values are None."""
    present = [value for value in values if value is not None]
    return sum(present) / len(present) if present else None
