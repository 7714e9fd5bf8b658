"""Finds the padding that the data preprocessor adds: padding is predicted, but does not count."""

from typing import Optional

from torch import Tensor

from ..memory.lean.autograd_ops.frame_region import FrameRegion


def padding_of(logits: Tensor, meta: dict) -> tuple[slice, slice]:
    """The rows and columns of (N, C, H, W) logits that are not padding."""
    left, right, top, bottom = meta.get('img_padding_size', meta.get('padding_size', [0] * 4))
    height, width = logits.shape[2:]
    return slice(top, height - bottom), slice(left, width - right)


def without_padding(logits: Tensor, metas: list[dict]) -> Tensor:
    """A view of (N, C, H, W) logits without the padding, which is neither measured nor learned."""
    rows, columns = padding_of(logits, metas[0])
    if (rows, columns) == (slice(0, logits.shape[2]), slice(0, logits.shape[3])):
        return logits
    return logits[:, :, rows, columns]


def padding_sizes(left: int, right: int, top: int, bottom: int) -> dict:
    """The entries of a metainfo for this padding, in pixels."""
    # mmseg's heads and data preprocessors use different names.
    return {name: [left, right, top, bottom] for name in ('img_padding_size', 'padding_size')}


def frame_region(inputs: Tensor, meta: dict) -> Optional[FrameRegion]:
    """The region of (N, 3, H, W) inputs that is not padding; None if there is no padding."""
    rows, columns = padding_of(inputs, meta)
    height, width = inputs.shape[2:]
    if (rows, columns) == (slice(0, height), slice(0, width)):
        return None
    return FrameRegion(height, width, (rows.start, rows.stop), (columns.start, columns.stop))
