"""An estimate of mIoU without labels, by what a model says of the same frame at another size.

Areas are (2, 2, 3, C): the predictions of two models (``ADAPTED``, ``SOURCE``), by two references
(what the same two models say of the frame at another size), by the rows of ``class_areas``, by C
classes.
"""

from typing import Optional

import torch
from torch import Tensor

from .class_areas import INTERSECTION, LABELLED, PREDICTED

ADAPTED, SOURCE = range(2)
"""Places of the two models."""

# A class counts if the source predicts so large a share of the pixels.
_LEAST_SHARE = 1e-3


@torch.no_grad()
def expected_areas(prediction: Tensor, probabilities: Tensor) -> Tensor:
    """The areas of a prediction if each pixel's label is drawn from probabilities.

    Args:
        prediction: (H, W) integer class indices in ``[0, C)``.
        probabilities: (C, H, W) float, 0 to 1.

    Returns:
        (3, C) float64 on the CPU, in pixels: the expected intersection, the predicted area, the
        expected labelled area.
    """
    classes = probabilities.shape[0]
    flat, chances = prediction.flatten(), probabilities.flatten(1).double()
    own = torch.nn.functional.one_hot(flat, classes).T.to(chances)
    # By products and sums in a fixed order: a scattered sum on a GPU is not the same twice.
    hits, predicted = (own * chances).sum(1), own.sum(1)
    return torch.stack([hits, predicted, chances.sum(1)]).cpu()


def both_areas(
    adapted: Tensor, source: Tensor, adapted_view: Tensor, source_view: Tensor
) -> Tensor:
    """``expected_areas`` of both predictions by both models' other view of the frame.

    Args:
        adapted, source: (H, W) predictions.
        adapted_view, source_view: (C, H, W) probabilities.

    Returns:
        (2, 2, 3, C) float64 on the CPU.
    """
    rows = [
        torch.stack([expected_areas(mask, view) for view in (adapted_view, source_view)])
        for mask in (adapted, source)
    ]
    return torch.stack(rows)


def common_classes(areas: Tensor) -> Tensor:
    """(C,) bool: the classes that the source predicts on 0.1 % of the pixels at least."""
    predicted = areas[SOURCE, SOURCE, PREDICTED]
    return predicted > _LEAST_SHARE * predicted.sum()


def expected_mIoU(areas: Tensor, classes: Tensor) -> float:
    """Mean over some classes of the expected intersection over the expected union, in percent.

    Args:
        areas: (3, C), from ``expected_areas``, summed over any number of frames.
        classes: (C,) bool.

    Returns:
        0 to 100; 0 if there is no class.
    """
    union = areas[PREDICTED] + areas[LABELLED] - areas[INTERSECTION]
    ratio = areas[INTERSECTION] / union.clamp_min(torch.finfo(union.dtype).tiny)
    return float(100 * ratio[classes].mean()) if bool(classes.any()) else 0.0


def clear_share(areas: Tensor, classes: Tensor) -> float:
    """What a method leaves of the source's mIoU on clear frames, 0 to 1.

    The source is right on clear frames, so its own other view is the reference of both.

    Args:
        areas: (2, 2, 3, C), summed over clear frames.
        classes: (C,) bool.
    """
    source = expected_mIoU(areas[SOURCE, SOURCE], classes)
    return min(1.0, expected_mIoU(areas[ADAPTED, SOURCE], classes) / source) if source else 1.0


def level_factor(own: Tensor, view: Tensor, classes: Tensor) -> float:
    """What an estimate by the other view has to be multiplied with.

    On clear frames the source disagrees with its other view for want of detail, too. The mean of
    what the source is sure of and of what the two views agree on is taken for right (the geometric
    one, so that the result is a factor).

    Args:
        own: (3, C) areas of the source's prediction by its own probabilities, over clear frames.
        view: (3, C) areas of the same prediction by the other view.
        classes: (C,) bool.

    Returns:
        At least 1.
    """
    agreement = expected_mIoU(view, classes)
    return max(1.0, expected_mIoU(own, classes) / agreement) ** 0.5 if agreement else 1.0


def own_difference(areas: Tensor, classes: Tensor, share: float = 1.0) -> float:
    """How far the adapted model agrees with its other view better than the source does.

    Args:
        areas: (2, 2, 3, C), of a frame or summed over frames.
        classes: (C,) bool.
        share: See ``clear_share``.

    Returns:
        -100 to 100, in percentage points of mIoU.
    """
    adapted = share * expected_mIoU(areas[ADAPTED, ADAPTED], classes)
    return adapted - expected_mIoU(areas[SOURCE, SOURCE], classes)


def estimated_mIoU(
    areas: Tensor,
    classes: Optional[Tensor] = None,
    share: float = 1.0,
    factor: float = 1.0,
    difference: Optional[float] = None,
) -> tuple[float, float]:
    """The estimated mIoU of the adapted and of the source's prediction, in percent.

    The mean of the two is that of both predictions by the mean of both models' probabilities: each
    model alone is too sure of itself. The difference is that of each by its own model: the worse a
    model knows a frame, the less a prediction agrees with that of the frame at another size. Of the
    adapted model's agreement a share counts: models by batch statistics agree with themselves on
    clear frames, too, on what is wrong.

    Args:
        areas: (2, 2, 3, C), summed over any number of frames.
        classes: (C,) bool, those that count; None for ``common_classes``.
        share: See ``clear_share``.
        factor: See ``level_factor``.
        difference: What ``own_difference`` gave, in place of that of these areas.

    Returns:
        Two numbers, 0 to 100.
    """
    classes = common_classes(areas) if classes is None else classes
    level = sum(expected_mIoU(own.mean(0), classes) for own in areas) / 2
    if difference is None:
        difference = own_difference(areas, classes, share)
    half = difference / 2
    return _percent(factor * (level + half)), _percent(factor * (level - half))


def _percent(value: float) -> float:
    return min(100.0, max(0.0, value))
