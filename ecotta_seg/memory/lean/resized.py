"""Losses of full-size predictions whose gradient is resized to the small logits band by band.

A decode head resizes its logits to the frame. With plain autograd, the entropy of the resized
logits keeps several maps of the frame's size and has a gradient of this size. Here the gradient
exists for one band of rows at a time and is resized back at once.
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple, Optional

import torch
import torch.nn.functional as F
from torch import Tensor

from .autograd_ops.backward import of_backward
from .autograd_ops.pixel_entropy import (
    entropy_bands,
    entropy_map,
    log_likelihood_bands,
    log_likelihood_map,
    pixel_entropy,
)
from .autograd_ops.resize import resize_bilinear
from .mode import register_rule


class Resized(NamedTuple):
    """The small logits from which logits were resized.

    Attributes:
        small: (N, C, h, w), with a graph.
        align_corners: Option of the bilinear resizing.
    """

    small: Tensor
    align_corners: bool


@register_rule(F.interpolate)
def interpolate(
    input, size=None, scale_factor=None, mode='nearest', align_corners=None,
    recompute_scale_factor=None, antialias=False,
) -> Tensor:  # fmt: skip
    """Rule for ``F.interpolate``. Runs torch's own; the result stores the tensor it came from."""
    options = (scale_factor, mode, align_corners, recompute_scale_factor, antialias)
    result = F.interpolate(input, size, *options)
    if mode == 'bilinear' and size is not None and not antialias and result is not input:
        result.resized = Resized(input, bool(align_corners))
    return result


def source_of_resize(logits: Tensor) -> Optional[Resized]:
    """The small logits, if logits were resized under ``LeanAutograd``; None if unknown."""
    return getattr(logits, 'resized', None)


# A function that takes logits (N, C, H, W) and returns one value per pixel (N, H, W).
_Values = Callable[[Tensor], Tensor]
# A function that takes logits, values and weights and yields the gradient of the weighted sum, band
# by band.
_Bands = Callable[[Tensor, Tensor, Tensor], Iterator[tuple[slice, Tensor]]]


class _PixelValues(torch.autograd.Function):
    """Computes one value per pixel; the gradient flows to the logits, or to their small logits."""

    @staticmethod
    def forward(ctx, origin, logits, align_corners, values: _Values, bands: _Bands):
        result = values(logits)
        ctx.save_for_backward(logits, result)
        ctx.shape, ctx.align_corners, ctx.bands = tuple(origin.shape), align_corners, bands
        return result

    @staticmethod
    @of_backward
    def backward(ctx, grad):
        logits, result = ctx.saved_tensors
        bands = ctx.bands(logits, result, grad)
        if ctx.align_corners is None:
            gradient = torch.empty_like(logits)
            for rows, band in bands:
                gradient[:, :, rows] = band
                del band
        else:
            back = _BandsBack(logits, ctx.shape, ctx.align_corners)
            for rows, band in bands:
                back.add(rows, band)
                # Frees the band before the next band is computed.
                del band
            gradient = back.gradient
        return gradient, None, None, None, None


def _pixel_values(logits: Tensor, values: _Values, bands: _Bands) -> Tensor:
    source = source_of_resize(logits)
    if source is None:
        return _PixelValues.apply(logits, logits.detach(), None, values, bands)
    return _PixelValues.apply(source.small, logits.detach(), source.align_corners, values, bands)


class _BandsBack:
    """Computes the backward pass of a bilinear resizing, a band of rows at a time.

    Args:
        like: (N, C, H, W), the resized map.
        shape: (N, C, h, w), the shape before the resizing.
        align_corners: Option of the resizing.
    """

    def __init__(self, like: Tensor, shape: tuple[int, ...], align_corners: bool) -> None:
        self.shape, self.align_corners = shape, align_corners
        self.gradient = like.new_zeros(shape)
        # Row i holds the weights of the map's rows in row i of the result.
        rows = torch.eye(shape[2], dtype=like.dtype, device=like.device)[None, None]
        self._weights = resize_bilinear(rows, (like.shape[2], shape[2]), align_corners)[0, 0]

    def add(self, rows: slice, grad: Tensor) -> None:
        """Adds the gradient of the result's ``rows``: (N, C, rows, W)."""
        frames, channels, height, width = grad.shape
        if width != self.shape[3]:
            grad = torch.ops.aten.upsample_bilinear2d_backward(
                grad, [height, width], [frames, channels, height, self.shape[3]],
                self.align_corners, None, None,
            )  # fmt: skip
        used = slice(self._row_of(rows.start), self._row_of(rows.stop - 1) + 2)
        self.gradient[:, :, used] += self._weights[rows, used].t() @ grad

    def _row_of(self, row: int) -> int:
        """The upper of the two map rows from which a row of the result is interpolated."""
        height, small = self._weights.shape
        if self.align_corners:
            position = row * (small - 1) / max(1, height - 1)
        else:
            position = (row + 0.5) * small / height - 0.5
        return min(max(0, int(position)), small - 1)


@register_rule(pixel_entropy)
def resized_entropy(logits: Tensor) -> Tensor:
    """Entropy of each pixel; keeps the logits and one number per pixel.

    If the small logits before the resizing are known, the gradient flows to them.

    Args:
        logits: (N, C, H, W).

    Returns:
        (N, H, W) in nats, 0 to ln C.
    """
    return _pixel_values(logits, entropy_map, entropy_bands)


@register_rule(F.cross_entropy)
def cross_entropy(
    input, target, weight=None, size_average=None, ignore_index=-100, reduce=None,
    reduction='mean', label_smoothing=0.0,
) -> Tensor:  # fmt: skip
    """Rule for the mean ``F.cross_entropy`` of maps with a class for each pixel.

    Keeps the logits, the classes and one number per pixel.
    """
    plain = weight is None and size_average is None and reduce is None and label_smoothing == 0
    if not plain or reduction != 'mean' or input.dim() != 4 or target.dim() != 3:
        return NotImplemented
    if not target.is_meta and bool((target == ignore_index).any()):
        return NotImplemented

    def values(logits: Tensor) -> Tensor:
        return log_likelihood_map(logits, target).neg_()

    def bands(logits: Tensor, result: Tensor, weights: Tensor):
        return log_likelihood_bands(logits, target, weights.neg())

    return _pixel_values(input, values, bands).mean()
