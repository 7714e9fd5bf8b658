"""One frame through a segmentor with gradients: whole, or window by window."""

from collections.abc import Iterator
from typing import Callable

import torch
import torch.nn.functional as F
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


def _without_padding(height: int, width: int, meta: dict) -> tuple[int, int, int, int]:
    """What the data preprocessor did not pad: there is nothing to learn from the rest."""
    left, right, top, bottom = meta.get('img_padding_size', meta.get('padding_size', [0] * 4))
    return top, height - bottom, left, width - right


def learned_regions(
    segmentor: nn.Module, inputs: Tensor, metas: list[dict]
) -> list[tuple[int, int, int, int]]:
    """(top, bottom, left, right) of what ``forward_windows`` shows to ``learn``, in its order."""
    height, width = inputs.shape[2:]
    if segmentor.test_cfg.get('mode', 'whole') != 'slide':
        return [_without_padding(height, width, metas[0])]
    return list(_windows(height, width, segmentor.test_cfg))


def forward_windows(
    segmentor: nn.Module,
    inputs: Tensor,
    metas: list[dict],
    learn: Callable[[Tensor, float], None],
) -> Tensor:
    """Predicts frames as ``segmentor.inference`` does and shows each window's logits to ``learn``.

    A window's graph is gone before the next window is run.

    Args:
        segmentor: An mmseg ``EncoderDecoder``.
        inputs: (N, 3, H, W).
        metas: Metainfo of the N samples.
        learn: Called with (N, classes, h, w) logits with graph and the window's share of the
            frame (the shares sum to 1).

    Returns:
        (N, classes, H, W) logits, detached; bit for bit those of ``segmentor.inference``.
    """
    if segmentor.test_cfg.get('mode', 'whole') != 'slide':
        logits = segmentor.encode_decode(inputs, metas)
        top, bottom, left, right = _without_padding(*logits.shape[2:], metas[0])
        learn(logits[:, :, top:bottom, left:right], 1.0)
        return logits.detach()
    height, width = inputs.shape[2:]
    windows = list(_windows(height, width, segmentor.test_cfg))
    total = inputs.new_zeros((inputs.shape[0], segmentor.out_channels, height, width))
    count = inputs.new_zeros((inputs.shape[0], 1, height, width))
    for top, bottom, left, right in windows:
        crop = inputs[:, :, top:bottom, left:right]
        # A torch.Size tells mmseg's head to resize to the window and not to the padded frame.
        window_metas = [dict(meta, img_shape=crop.shape[2:]) for meta in metas]
        logits = segmentor.encode_decode(crop, window_metas)
        learn(logits, 1.0 / len(windows))
        with torch.no_grad():
            total += F.pad(logits.detach(), (left, width - right, top, height - bottom))
            count[:, :, top:bottom, left:right] += 1
    return total / count
