"""One frame through a segmentor with gradients: whole, or window by window."""

from collections.abc import Iterator
from itertools import islice
from typing import Callable, Optional

import torch
from torch import Tensor, nn


def _windows(height: int, width: int, test_cfg: dict) -> Iterator[tuple[int, int, int, int]]:
    """(top, bottom, left, right) of mmseg's sliding windows, in its order."""
    (h_crop, w_crop), (h_stride, w_stride) = test_cfg['crop_size'], test_cfg['stride']
    rows = max(height - h_crop + h_stride - 1, 0) // h_stride + 1
    columns = max(width - w_crop + w_stride - 1, 0) // w_stride + 1
    for row in range(rows):
        for column in range(columns):
            bottom = min(row * h_stride + h_crop, height)
            right = min(column * w_stride + w_crop, width)
            yield max(bottom - h_crop, 0), bottom, max(right - w_crop, 0), right


def padding_of(logits: Tensor, meta: dict) -> tuple[slice, slice]:
    """The rows and columns of (N, C, H, W) logits that the data preprocessor has not padded."""
    if isinstance(meta.get('img_shape'), torch.Size):
        # A sliding window; mmseg leaves the padding in, it has no place of its own there.
        return slice(0, logits.shape[2]), slice(0, logits.shape[3])
    left, right, top, bottom = meta.get('img_padding_size', meta.get('padding_size', [0] * 4))
    height, width = logits.shape[2:]
    return slice(top, height - bottom), slice(left, width - right)


def _without_padding(logits: Tensor, meta: dict) -> Tensor:
    """Cuts off what the data preprocessor padded: there is nothing to learn from it."""
    rows, columns = padding_of(logits, meta)
    return logits[:, :, rows, columns]


def learned_regions(
    segmentor: nn.Module, inputs: Tensor, metas: list[dict]
) -> list[tuple[int, int, int, int]]:
    """(top, bottom, left, right) of what ``forward_windows`` shows to ``learn``, in its order."""
    height, width = inputs.shape[2:]
    if not slides(segmentor):
        rows, columns = padding_of(inputs, metas[0])
        return [(rows.start, rows.stop, columns.start, columns.stop)]
    return list(_windows(height, width, segmentor.test_cfg))


def forward_windows(
    segmentor: nn.Module,
    inputs: Tensor,
    metas: list[dict],
    learn: Callable[[Tensor, float], None],
) -> Tensor:
    """Predicts frames as ``segmentor.inference`` does and shows each window's logits to ``learn``.

    A window's graph is gone before the next window is run. What ``learn`` adds up is so the mean of
    the windows' losses, not of all pixels': a window of which no pixel passes a method's filter
    makes the frame's step smaller.

    Args:
        segmentor: An mmseg ``EncoderDecoder``.
        inputs: (N, 3, H, W).
        metas: Metainfo of the N samples.
        learn: Called with (N, classes, h, w) logits with graph and the window's share of the
            frame (the shares sum to 1).

    Returns:
        (N, classes, H, W) logits, detached; bit for bit those of ``segmentor.inference``.
    """

    def run(crop: Tensor, window_metas: list[dict], share: float) -> Tensor:
        logits = segmentor.encode_decode(crop, window_metas)
        learn(_without_padding(logits, window_metas[0]), share)
        return logits.detach()

    return over_windows(segmentor, inputs, metas, run)


def over_windows(
    segmentor: nn.Module,
    inputs: Tensor,
    metas: list[dict],
    run: Callable[[Tensor, list[dict], float], Tensor],
    most: Optional[int] = None,
) -> Tensor:
    """Puts a frame together from windows that ``run`` predicts, as the model's test mode says.

    Above what ``run`` takes there stand the frame's logits and one number a pixel; mmseg's own
    ``slide_inference`` has the logits twice.

    Args:
        segmentor, inputs, metas: See ``forward_windows``.
        run: Called with a window (N, 3, h, w), its metainfo and its share of the frame; gives
            (N, classes, h, w) logits without a graph.
        most: Leave off after so many windows, for who wants to know what the frame takes and not
            what is in it. None for all.

    Returns:
        (N, classes, H, W) logits.
    """
    if not slides(segmentor):
        return run(inputs, metas, 1.0)
    height, width = inputs.shape[2:]
    windows = list(_windows(height, width, segmentor.test_cfg))
    total = inputs.new_zeros((inputs.shape[0], segmentor.out_channels, height, width))
    count = inputs.new_zeros((inputs.shape[0], 1, height, width))
    for top, bottom, left, right in islice(windows, most):
        crop = inputs[:, :, top:bottom, left:right]
        # A torch.Size tells mmseg's head to resize to the window and not to the padded frame.
        window_metas = [dict(meta, img_shape=crop.shape[2:]) for meta in metas]
        logits = run(crop, window_metas, 1.0 / len(windows))
        with torch.no_grad():
            total[:, :, top:bottom, left:right] += logits
            count[:, :, top:bottom, left:right] += 1
        # Or it would stand while the next window is run.
        del logits
    return total.div_(count)


def slides(segmentor: nn.Module) -> bool:
    """Whether frames are predicted in sliding windows."""
    return segmentor.test_cfg.get('mode', 'whole') == 'slide'
