"""Compares an exported network with the method from which it was exported."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple, Optional

import torch
from mmseg.structures import SegDataSample
from torch import Tensor

from ..meta_networks import MetaNetwork
from ..methods import AdaptationMethod


class Agreement(NamedTuple):
    """The result of a comparison over some frames.

    Attributes:
        frames: Number of frames.
        sizes: Number of different frame sizes.
        difference: The largest absolute difference between corresponding logits.
        largest: The largest absolute value of the method's logits.
        equal: The share of pixels for which both predict the same class, 0 to 1.
    """

    frames: int
    sizes: int
    difference: float
    largest: float
    equal: float

    def sentence(self) -> str:
        """The comparison as a part of a message."""
        return (
            f'{self.frames} frames of {self.sizes} sizes: the logits differ by '
            f'{self.difference:.1e} at most (the largest is {self.largest:.1f}), and '
            f'{self.equal:.3%} of the pixels have the same class'
        )


@torch.no_grad()
def predicted(method: AdaptationMethod, frame: Tensor, strength: Optional[float] = None) -> Tensor:
    """Predicts a frame as if it were the stream's next one, without changing the method.

    Args:
        method: The method, in evaluation mode.
        frame: (C, H, W) uint8, before the data preprocessor.
        strength: The strength of the meta networks, 0 to 1. None for the strength that the method
            computes.

    Returns:
        Logits (1, classes, H, W).
    """
    shape = tuple(frame.shape[1:])
    sample = SegDataSample(metainfo=dict(img_shape=shape, ori_shape=shape, pad_shape=shape))
    data = dict(inputs=[frame], data_samples=[sample])
    batch = method.segmentor.data_preprocessor(data, False)
    metas = [sample.metainfo for sample in batch['data_samples']]
    with method.adaptation_disabled():
        inputs = method.prepare(batch['inputs'], metas)
        if strength is None:
            return method.predict_frame(inputs, metas)
        with _acting_by(method, strength):
            return method.predict(inputs, metas)


@contextmanager
def _acting_by(method: AdaptationMethod, strength: float) -> Iterator[None]:
    if getattr(method, 'shift_gate', None) is not None:
        # ``adaptation_disabled`` restores the old strength on exit.
        method.strength.fill_(strength)
    networks = [module for module in method.segmentor.modules() if isinstance(module, MetaNetwork)]
    before = [network.strength for network in networks]
    for network in networks:
        network.strength = strength
    try:
        yield
    finally:
        for network, old in zip(networks, before):
            network.strength = old


def compare(
    run: Callable[[Tensor], Tensor],
    method: AdaptationMethod,
    frames: Sequence[Tensor],
    strength: Optional[float] = None,
) -> Agreement:
    """Compares the logits of an exported network with those of a method.

    Args:
        run: Runs the network on (1, C, H, W) float32, 0 to 255; returns logits (1, classes, H, W).
        method: See ``predicted``.
        frames: (C, H, W) uint8 each, in sizes that the data preprocessor does not pad.
        strength: See ``predicted``.
    """
    difference = largest = equal = 0.0
    for frame in frames:
        expected, found = predicted(method, frame, strength), run(frame[None].float())
        # If a logit is NaN, the difference is NaN and counts as infinite.
        apart = (expected - found).abs().max().nan_to_num(nan=torch.inf)
        difference = max(difference, float(apart))
        largest = max(largest, float(expected.abs().max()))
        equal += float((expected.argmax(1) == found.argmax(1)).float().mean()) / len(frames)
    sizes = len({tuple(frame.shape[1:]) for frame in frames})
    return Agreement(len(frames), sizes, difference, largest, equal)
