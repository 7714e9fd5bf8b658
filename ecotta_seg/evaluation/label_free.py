"""Estimates mIoU without labels, from a model's output for the same frame at another size.

The other view of a model is the model's probabilities for the frame at another size. Areas are
(2, 2, 3, C): the first index is the model that predicts (``ADAPTED`` or ``SOURCE``), the second is
the model whose other view takes the place of the label, the third is the row of ``class_areas``,
and C is the number of classes.
"""

from typing import Optional

import torch
from torch import Tensor

from .class_areas import INTERSECTION, LABELLED, PREDICTED

ADAPTED, SOURCE = range(2)
"""Indices of the two models."""

# A class counts if the source predicts more than this fraction of the pixels.
_LEAST_SHARE = 1e-3


@torch.no_grad()
def expected_areas(prediction: Tensor, probabilities: Tensor) -> Tensor:
    """Computes the expected areas of a prediction whose labels are only known as probabilities.

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
    # Products and sums in a fixed order: a scattered sum on a GPU is not reproducible.
    hits, predicted = (own * chances).sum(1), own.sum(1)
    return torch.stack([hits, predicted, chances.sum(1)]).cpu()


def both_areas(
    adapted: Tensor, source: Tensor, adapted_view: Tensor, source_view: Tensor
) -> Tensor:
    """Computes ``expected_areas`` of each model's prediction with each model's other view.

    Args:
        adapted, source: (H, W) integer class indices that each model predicts.
        adapted_view, source_view: (C, H, W) probabilities of each model's other view.

    Returns:
        (2, 2, 3, C) float64 on the CPU.
    """
    rows = [
        torch.stack([expected_areas(mask, view) for view in (adapted_view, source_view)])
        for mask in (adapted, source)
    ]
    return torch.stack(rows)


def common_classes(areas: Tensor) -> Tensor:
    """Returns (C,) bool: True for classes that the source predicts on over 0.1 % of the pixels."""
    predicted = areas[SOURCE, SOURCE, PREDICTED]
    return predicted > _LEAST_SHARE * predicted.sum()


def expected_mIoU(areas: Tensor, classes: Tensor) -> float:
    """Computes the class mean of expected intersection over expected union, in percent.

    Args:
        areas: (3, C), from ``expected_areas``, summed over any number of frames.
        classes: (C,) bool, the classes in the mean.

    Returns:
        0 to 100; 0 without any class.
    """
    union = areas[PREDICTED] + areas[LABELLED] - areas[INTERSECTION]
    ratio = areas[INTERSECTION] / union.clamp_min(torch.finfo(union.dtype).tiny)
    return float(100 * ratio[classes].mean()) if bool(classes.any()) else 0.0


def clear_share(areas: Tensor, classes: Tensor) -> float:
    """Computes the fraction of the source's mIoU that a method keeps on clear frames, 0 to 1.

    The source is assumed to be right on clear frames. So its other view takes the place of the
    label for both models.

    Args:
        areas: (2, 2, 3, C), summed over clear frames.
        classes: (C,) bool.
    """
    source = expected_mIoU(areas[SOURCE, SOURCE], classes)
    return min(1.0, expected_mIoU(areas[ADAPTED, SOURCE], classes) / source) if source else 1.0


def level_factor(own: Tensor, view: Tensor, classes: Tensor) -> float:
    """Computes the factor that corrects an estimate with the other view.

    Even on clear frames the source disagrees with its other view, because the two sizes differ in
    detail. The expected mIoU can be computed with the source's own probabilities or with the other
    view. The geometric mean of these two values is taken as correct. The factor is this mean
    divided by the expected mIoU with the other view.

    Args:
        own: (3, C) areas of the source's prediction with its own probabilities, over clear frames.
        view: (3, C) areas of the same prediction with the source's other view.
        classes: (C,) bool.

    Returns:
        At least 1.
    """
    agreement = expected_mIoU(view, classes)
    return max(1.0, expected_mIoU(own, classes) / agreement) ** 0.5 if agreement else 1.0


def own_difference(areas: Tensor, classes: Tensor, share: float = 1.0) -> float:
    """Computes how much more the adapted model agrees with its other view than the source does.

    Each model is compared with its own other view.

    Args:
        areas: (2, 2, 3, C) of a frame, or summed over frames.
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
    """Estimates the mIoU of the adapted and of the source's prediction, in percent.

    The function computes the mean of the two estimates and their difference. The mean uses both
    predictions and the mean of both other views, because each model alone is overconfident. The
    difference uses each model's own other view: the worse a model fits a frame, the less its
    outputs at two sizes agree. The adapted model's agreement is multiplied by ``share``, because
    models with batch statistics agree with themselves on wrong pixels, even on clear frames.

    Args:
        areas: (2, 2, 3, C), summed over any number of frames.
        classes: (C,) bool, the classes that count; None for ``common_classes``.
        share: See ``clear_share``.
        factor: See ``level_factor``.
        difference: The difference to use; None for ``own_difference`` of these areas.

    Returns:
        The estimated mIoU of the adapted and of the source's prediction, each from 0 to 100.
    """
    classes = common_classes(areas) if classes is None else classes
    level = sum(expected_mIoU(own.mean(0), classes) for own in areas) / 2
    if difference is None:
        difference = own_difference(areas, classes, share)
    half = difference / 2
    return _percent(factor * (level + half)), _percent(factor * (level - half))


def _percent(value: float) -> float:
    return min(100.0, max(0.0, value))
