"""Runs a frame through a segmentor with gradients: whole, or window by window."""

from collections.abc import Iterator
from contextlib import nullcontext
from itertools import islice
from typing import Callable, NamedTuple, Optional

import torch
from torch import Tensor, nn

from ..memory.lean import lean_autograd
from ..memory.lean.autograd_ops.frame_region import measuring
from .fixed_draws import fixed_draws
from .padding import frame_region, padding_of, padding_sizes, without_padding


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


class _Window(NamedTuple):
    """A sliding window.

    Attributes:
        box: (top, bottom, left, right) in the padded frame.
        padding: (left, right, top, bottom), the padding in the window.
    """

    box: tuple[int, int, int, int]
    padding: tuple[int, int, int, int]


def _frame_windows(segmentor: nn.Module, inputs: Tensor, metas: list[dict]) -> list[_Window]:
    """The sliding windows that contain a part of the frame, in mmseg's order."""
    rows, columns = padding_of(inputs, metas[0])
    found = []
    for box in _windows(*inputs.shape[2:], segmentor.test_cfg):
        top, bottom, left, right = box
        in_rows = top < rows.stop and bottom > rows.start
        if in_rows and left < columns.stop and right > columns.start:
            sides = (
                columns.start - left, right - columns.stop, rows.start - top, bottom - rows.stop
            )  # fmt: skip
            found.append(_Window(box, tuple(max(side, 0) for side in sides)))
    return found


def first_window(segmentor: nn.Module, inputs: Tensor, metas: list[dict]) -> Tensor:
    """The crop of the first window in ``over_windows``; without sliding windows, all inputs."""
    if not slides(segmentor):
        return inputs
    top, bottom, left, right = _frame_windows(segmentor, inputs, metas)[0].box
    return inputs[:, :, top:bottom, left:right]


def learned_regions(
    segmentor: nn.Module, inputs: Tensor, metas: list[dict]
) -> list[tuple[int, int, int, int]]:
    """(top, bottom, left, right) of the regions that ``forward_windows`` passes to ``learn``."""
    if not slides(segmentor):
        rows, columns = padding_of(inputs, metas[0])
        return [(rows.start, rows.stop, columns.start, columns.stop)]
    regions = []
    for (top, bottom, left, right), padding in _frame_windows(segmentor, inputs, metas):
        regions.append(
            (top + padding[2], bottom - padding[3], left + padding[0], right - padding[1])
        )
    return regions


def predict_frames(segmentor: nn.Module, inputs: Tensor, metas: list[dict]) -> Tensor:
    """Predicts like ``segmentor.inference``, but statistics of layers leave the padding out.

    Args:
        segmentor: An mmseg ``EncoderDecoder``.
        inputs: (N, 3, H, W).
        metas: Metainfo of the N samples.

    Returns:
        (N, classes, H, W) logits.
    """
    if not slides(segmentor):
        region = frame_region(inputs, metas[0])
        measured = nullcontext() if region is None else measuring(segmentor, region)
        with measured, fixed_draws(inputs.device):
            return segmentor.inference(inputs, metas)

    def run(crop: Tensor, window_metas: list[dict], share: float) -> Tensor:
        with fixed_draws(crop.device):
            return segmentor.encode_decode(crop, window_metas)

    return over_windows(segmentor, inputs, metas, run)


def forward_windows(
    segmentor: nn.Module,
    inputs: Tensor,
    metas: list[dict],
    learn: Callable[[Tensor, float], None],
) -> Tensor:
    """Predicts frames like ``segmentor.inference`` and passes each window's logits to ``learn``.

    The graph of a window is freed before the next window runs. So the frame's loss is the mean of
    the windows' losses and not a mean over all pixels. If no pixel of a window passes a method's
    filter, the frame's step becomes smaller.

    Args:
        segmentor: An mmseg ``EncoderDecoder``.
        inputs: (N, 3, H, W).
        metas: Metainfo of the N samples.
        learn: Called with the (N, classes, h, w) logits of a window, which have a graph, and with
            the window's weight. The weights of a frame sum to 1.

    Returns:
        (N, classes, H, W) logits, detached; bit for bit equal to those of ``predict_frames``.
    """

    def run(crop: Tensor, window_metas: list[dict], share: float) -> Tensor:
        with lean_autograd():
            with fixed_draws(crop.device):
                logits = segmentor.encode_decode(crop, window_metas)
            learn(without_padding(logits, window_metas), share)
        return logits.detach()

    return over_windows(segmentor, inputs, metas, run)


def over_windows(
    segmentor: nn.Module,
    inputs: Tensor,
    metas: list[dict],
    run: Callable[[Tensor, list[dict], float], Tensor],
    most: Optional[int] = None,
) -> Tensor:
    """Predicts each sliding window with ``run`` and averages the windows to a frame.

    If the model's test mode is 'whole', ``run`` is called once, with the whole frame. During
    ``run``, the statistics of layers leave the window's padding out (see ``measuring``). ``run`` is
    not called for a window that is only padding; its logits are 0.

    Besides the memory of ``run``, this function holds the frame's logits and one number per pixel;
    mmseg's own ``slide_inference`` holds the logits twice.

    Args:
        segmentor, inputs, metas: See ``forward_windows``.
        run: Called with the window's crop (N, 3, h, w), its metainfo (with the padding in the
            window), and 1 divided by the number of windows; returns (N, classes, h, w) logits
            without a graph.
        most: Maximum number of windows that run, for memory planning; None for all windows.

    Returns:
        (N, classes, H, W) logits.
    """
    if not slides(segmentor):
        with measuring(segmentor, frame_region(inputs, metas[0])):
            return run(inputs, metas, 1.0)
    height, width = inputs.shape[2:]
    windows = _frame_windows(segmentor, inputs, metas)
    total = inputs.new_zeros((inputs.shape[0], segmentor.out_channels, height, width))
    count = inputs.new_zeros((inputs.shape[0], 1, height, width))
    for number, ((top, bottom, left, right), padding) in enumerate(islice(windows, most)):
        crop = inputs[:, :, top:bottom, left:right]
        # With a torch.Size, mmseg's head resizes to the window and not to the padded frame.
        of_window = dict(img_shape=crop.shape[2:], **padding_sizes(*padding))
        window_metas = [{**meta, **of_window} for meta in metas]
        with measuring(segmentor, frame_region(crop, window_metas[0]), number):
            logits = run(crop, window_metas, 1.0 / len(windows))
        with torch.no_grad():
            total[:, :, top:bottom, left:right] += logits
            count[:, :, top:bottom, left:right] += 1
        # Free the logits before the next window runs.
        del logits
    return total.div_(count.clamp_(min=1))


def slides(segmentor: nn.Module) -> bool:
    """Whether frames are predicted in sliding windows."""
    return segmentor.test_cfg.get('mode', 'whole') == 'slide'
