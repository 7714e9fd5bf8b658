"""Several views of one frame, predicted by the same model and averaged.

CoTTA (arXiv 2203.13591) and most later methods predict 14 views of a frame: seven scales, each
plain and mirrored. The views alone raise the mIoU, so compare methods only under the same views;
the reports give the number of views with every score.
"""

from collections.abc import Sequence
from typing import Callable, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from .padding import padding_of, padding_sizes

SCALES = (0.5, 0.75, 1.0, 1.25, 1.5, 1.75, 2.0)
MAX_VIEWS = 2 * len(SCALES)


class View(NamedTuple):
    """One augmented view of a frame.

    Attributes:
        scale: Scale of both sides.
        flip: Whether the view is mirrored left to right.
    """

    scale: float
    flip: bool


def prediction_views(count: int) -> list[View]:
    """The first ``count`` views: the plain frame, its mirror image, then CoTTA's other views.

    The others have the scales 0.5, 0.75, 1.25, 1.5, 1.75 and 2, each unflipped before flipped. One
    view is the plain prediction; 14 views are CoTTA's set.

    Raises:
        ValueError: ``count`` is not a whole number from 1 to 14.
    """
    if isinstance(count, bool) or not isinstance(count, int) or not 1 <= count <= MAX_VIEWS:
        raise ValueError(f'expected a whole number of views from 1 to {MAX_VIEWS}, got {count!r}')
    others = [View(scale, flip) for scale in SCALES if scale != 1 for flip in (False, True)]
    return [View(1.0, False), View(1.0, True), *others][:count]


def view_probabilities(
    predict: Callable[[Tensor, list[dict]], Tensor],
    inputs: Tensor,
    metas: list[dict],
    view: View,
) -> Tensor:
    """Class probabilities of a frame in one view.

    The view is resized (bilinear) from the preprocessed frame without padding, not from the file.
    Its logits are resized back before the softmax, as mmseg does.

    Args:
        predict: Returns (N, C, h, w) logits of (N, 3, h, w) frames and their metainfo.
        inputs: (N, 3, H, W) float.
        metas: Metainfo of the N samples.
        view: The view.

    Returns:
        (N, C, H, W), 0 to 1; 0 in the padding.
    """
    rows, columns = padding_of(inputs, metas[0])
    frame = inputs[:, :, rows, columns]
    seen = frame
    if view.scale != 1:
        size = [max(1, round(side * view.scale)) for side in frame.shape[2:]]
        seen = F.interpolate(frame, size=size, mode='bilinear', align_corners=False)
    if view.flip:
        seen = seen.flip(3)
    shape = dict(img_shape=seen.shape[2:], pad_shape=seen.shape[2:])
    logits = predict(seen, [{**item, **shape, **padding_sizes(0, 0, 0, 0)} for item in metas])
    if view.flip:
        logits = logits.flip(3)
    if view.scale != 1:
        logits = F.interpolate(logits, frame.shape[2:], mode='bilinear', align_corners=False)
    height, width = inputs.shape[2:]
    sides = (columns.start, width - columns.stop, rows.start, height - rows.stop)
    return F.pad(logits.softmax(dim=1), sides)


@torch.no_grad()
def summed_probabilities(predict, inputs: Tensor, metas: list[dict], views: Sequence[View]):
    """The sum of ``view_probabilities`` over views, one after the other: (N, C, H, W).

    Args:
        predict, inputs, metas: See ``view_probabilities``.
        views: At least one.
    """
    total = view_probabilities(predict, inputs, metas, views[0])
    for view in views[1:]:
        total += view_probabilities(predict, inputs, metas, view)
    return total


def averaged_logits(logits: Tensor, others: Tensor, count: int) -> Tensor:
    """Logits whose softmax is the mean of all views' probabilities.

    Args:
        logits: (N, C, H, W), of the plain frame.
        others: (N, C, H, W), the sum of the other views' probabilities.
        count: The number of views, including the plain frame.

    Returns:
        (N, C, H, W), logarithms of probabilities.
    """
    return mean_logits(logits.softmax(dim=1) + others, count)


def mean_logits(total: Tensor, count: int) -> Tensor:
    """Like ``averaged_logits``, from (N, C, H, W) probabilities summed over all ``count`` views."""
    mean = total / count
    return mean.clamp_(min=torch.finfo(mean.dtype).tiny).log_()
