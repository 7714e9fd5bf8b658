"""Reduces frames for predictions that need no detail."""

import torch.nn.functional as F
from torch import Tensor

from .padding import frame_region, padding_sizes

SMALLEST_SIDE = 128


def reduced_frame(inputs: Tensor, metas: list[dict], scale: float) -> tuple[Tensor, list[dict]]:
    """Reduces a frame if its sides stay at least 128 pixels long; else returns it unchanged.

    The padding is reduced by the same scale, for models that need padding. The frame is resized
    without the padding, so no pixel of the frame mixes with padding.

    Args:
        inputs: (N, 3, H, W), preprocessed.
        metas: Metainfo of the N samples.
        scale: Above 0, at most 1.

    Returns:
        (N, 3, scale * H, scale * W), and the matching metainfo.
    """
    region = frame_region(inputs, metas[0])
    frame = inputs if region is None else region.crop(inputs)
    if scale == 1 or min(frame.shape[2:]) * scale < SMALLEST_SIDE:
        return inputs, metas
    height, width = (int(side * scale) for side in inputs.shape[2:])
    reduced = _resized(inputs, height, width)
    sides = [0] * 4
    if region is not None:
        top, left = int(region.rows[0] * scale), int(region.columns[0] * scale)
        of_frame = _resized(frame, *(int(side * scale) for side in frame.shape[2:]))
        bottom, right = top + of_frame.shape[2], left + of_frame.shape[3]
        reduced[:, :, top:bottom, left:right] = of_frame
        sides = [left, width - right, top, height - bottom]
    shape = dict(img_shape=reduced.shape[2:], pad_shape=reduced.shape[2:])
    return reduced, [{**meta, **shape, **padding_sizes(*sides)} for meta in metas]


def _resized(x: Tensor, height: int, width: int) -> Tensor:
    return F.interpolate(x, size=(height, width), mode='bilinear', align_corners=False)
