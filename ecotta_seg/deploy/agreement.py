"""How far an exported network is from the method that it was made of."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple, Optional

import torch
from mmseg.structures import SegDataSample
from torch import Tensor

from ..meta_networks import MetaNetwork
from ..methods import AdaptationMethod


class Agreement(NamedTuple):
    """The comparison over some frames.

    Attributes:
        frames: How many.
        sizes: How many sizes they have.
        difference: The largest difference of two logits.
        largest: The largest logit without its sign.
        equal: The share of pixels of the same class, 0 to 1.
    """

    frames: int
    sizes: int
    difference: float
    largest: float
    equal: float

    def sentence(self) -> str:
        """The comparison, for people."""
        return (
            f'{self.frames} frames of {self.sizes} sizes: the logits differ by '
            f'{self.difference:.1e} at most (the largest is {self.largest:.1f}), and '
            f'{self.equal:.3%} of the pixels have the same class'
        )


@torch.no_grad()
def predicted(method: AdaptationMethod, frame: Tensor, strength: Optional[float] = None) -> Tensor:
    """What a method predicts if this were the next frame; the method stays as it is.

    Args:
        method: In evaluation mode.
        frame: (C, H, W) uint8, before the data preprocessor.
        strength: Of its meta networks; None for what the method finds.

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
        # Put back by ``adaptation_disabled``.
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
    """Compares a network with a method.

    Args:
        run: Takes (1, C, H, W) float32, 0 to 255, and gives logits (1, classes, H, W).
        method: See ``predicted``.
        frames: (C, H, W) uint8, of sizes that the preprocessor does not pad.
        strength: See ``predicted``.
    """
    difference = largest = equal = 0.0
    for frame in frames:
        expected, found = predicted(method, frame, strength), run(frame[None].float())
        # Of numbers that are none the difference is none, and is larger than any tolerance.
        apart = (expected - found).abs().max().nan_to_num(nan=torch.inf)
        difference = max(difference, float(apart))
        largest = max(largest, float(expected.abs().max()))
        equal += float((expected.argmax(1) == found.argmax(1)).float().mean()) / len(frames)
    sizes = len({tuple(frame.shape[1:]) for frame in frames})
    return Agreement(len(frames), sizes, difference, largest, equal)
