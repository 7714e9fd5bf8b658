"""What a guard reads off predictions: agreement, entropy, and which entropy is usual."""

from collections import deque
from math import log
from statistics import median
from typing import Optional

import torch
from torch import Tensor

from .losses import pixel_entropy

# What the entropy of a stream's frames usually is, is the median over so many of them; and how far
# above it a frame may be, whatever the limit.
_USUAL_FRAMES = 50
_RISE = 1.25


def mask_agreement(current: Tensor, reference: Tensor, min_share: float = 0.002) -> float:
    """Mean IoU of two class masks, over the classes that cover some of the reference.

    A model that collapses loses its small classes first; the share of equal pixels hardly tells.

    Args:
        current: Integer class indices of any shape, of one pixel at least.
        reference: The same shape.
        min_share: Classes on a smaller share of the reference's pixels are left out.

    Returns:
        0 to 1; 1 where the two are equal.
    """
    current, reference = current.flatten().long(), reference.flatten().long()
    classes = int(torch.maximum(current.max(), reference.max())) + 1
    pairs = torch.bincount(current * classes + reference, minlength=classes**2)
    pairs = pairs.reshape(classes, classes).double()
    both, union = pairs.diagonal(), pairs.sum(0) + pairs.sum(1) - pairs.diagonal()
    there = pairs.sum(0) >= max(1.0, min_share * current.numel())
    return float((both[there] / union[there]).mean())


def largest_share(logits: Tensor) -> float:
    """The share of a frame's pixels that its most frequent class has: 0 to 1.

    Every fourth row and column is looked at.

    Args:
        logits: (N, C, H, W).
    """
    masks = logits.detach()[:, :, ::4, ::4].argmax(1)
    counts = torch.bincount(masks.flatten(), minlength=logits.shape[1])
    return float(counts.max()) / float(counts.sum())


def mean_entropy(logits: Tensor) -> float:
    """Mean entropy over all pixels in nats; every fourth row and column is looked at.

    Args:
        logits: (N, C, H, W).
    """
    return float(pixel_entropy(logits.detach()[:, :, ::4, ::4]).mean())


def class_diversity(logits: Tensor) -> float:
    """Entropy of the mean class probabilities in nats, 0 to ln C, by every fourth row and column.

    Args:
        logits: (N, C, H, W).
    """
    shares = logits.detach()[:, :, ::4, ::4].softmax(1).mean((0, 2, 3))
    return float(torch.special.entr(shares).sum())


def entropy_share(logits: Tensor) -> float:
    """``mean_entropy`` as a share of its maximum, ln C."""
    return mean_entropy(logits) / log(max(2, logits.shape[1]))


def surest_half(logits: Tensor) -> Tensor:
    """The half of the pixels that a prediction is surest of.

    Args:
        logits: (N, C, H, W).

    Returns:
        (N, H, W) booleans: entropy at most its median.
    """
    entropy = pixel_entropy(logits.detach())
    return entropy <= entropy.median()


class EntropyWatch:
    """Which entropies of predictions are usual on a stream, and which are too high to learn from.

    All entropies are means over a frame as shares of ln C, 0 to 1. The limit is ``highest`` or,
    for a model that is less sure of ordinary frames, 1.25 times the median of the last 50 frames
    that were learned from.

    Args:
        highest: The limit of a model that is usually sure; 1 turns the watch off.
        window: Frames whose median is held against the limit.
    """

    def __init__(self, highest: float, window: int) -> None:
        self.highest = highest
        # Of the last frames, and of the last that were learned from.
        self._last: deque = deque(maxlen=window)
        self._usual: deque = deque(maxlen=_USUAL_FRAMES)
        # The same when the good parameters were kept; for those at the start, the first frame's.
        self._good: list[float] = []
        self._first: list[float] = []

    def see(self, entropy: float) -> float:
        """Takes a frame's entropy in and gives the median of the last ``window`` frames."""
        self._last.append(entropy)
        return median(self._last)

    def judge(self, entropy: float) -> Optional[str]:
        """Why nothing may be learned where the entropy is so; None where it may."""
        if self.highest == 1 or entropy <= self.limit():
            return None
        return f'the entropy of the prediction is at {entropy:.0%} of its maximum'

    def limit(self) -> float:
        """The highest entropy that is learned from."""
        usual = median(self._usual) if self._usual else 1.0
        return max(self.highest, _RISE * usual)

    def learned(self) -> None:
        """The last frame seen was learned from."""
        self._usual.append(self._last[-1])
        if not self._first:
            self._first = self._good = [self._last[-1]]

    def keep(self) -> None:
        """The parameters of now are good ones to go back to."""
        self._good = list(self._usual)

    def back_to_good(self) -> None:
        """What was usual for the model that is gone need not be for the one gone back to."""
        self._last.clear()
        self._usual = deque(self._good, maxlen=_USUAL_FRAMES)

    def back_to_start(self) -> None:
        """The same of the model before its first frame."""
        self._good = list(self._first)
        self.back_to_good()

    def state_dict(self) -> dict:
        """All that a later verdict depends on."""
        return {
            'last': list(self._last),
            'usual': list(self._usual),
            'good': list(self._good),
            'first': list(self._first),
        }

    def load_state_dict(self, state: dict) -> None:
        """Goes on from what ``state_dict`` gave."""
        self._last = deque(state['last'], maxlen=self._last.maxlen)
        self._usual = deque(state['usual'], maxlen=_USUAL_FRAMES)
        self._good, self._first = list(state['good']), list(state['first'])
