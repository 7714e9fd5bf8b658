"""A bank of recent, certain and diverse frames, after RoTTA's bank of images."""

from dataclasses import asdict, dataclass, fields
from math import exp, log
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ..inference.padding import padding_sizes


@dataclass
class BankedFrame:
    """A frame in the bank.

    Attributes:
        frame: (1, C, H, W), preprocessed, without padding.
        padding: [left, right, top, bottom] in pixels: the padding that ``padded`` adds to the
            frame.
        category: The class that the frame represents.
        uncertainty: Mean entropy of the prediction in nats.
        age: Frames of the stream since the frame entered the bank.
    """

    frame: Tensor
    padding: list[int]
    category: int
    uncertainty: float
    age: int = 0

    @property
    def padded(self) -> Tensor:
        """The frame with its padding."""
        return F.pad(self.frame, self.padding)

    @property
    def metas(self) -> list[dict]:
        """The metainfo of ``padded``."""
        size = self.padded.shape[2:]
        return [dict(img_shape=size, ori_shape=size, **padding_sizes(*self.padding))]


class FrameBank:
    """Category-balanced sampling with timeliness and uncertainty (arXiv 2303.13899, Alg. 1).

    If the category of a new frame has at least capacity / classes frames, the new frame may replace
    a frame of its own category. Otherwise, if the bank has room, the new frame enters; if the bank
    is full, the new frame may replace a frame of the largest categories. Among the frames that may
    be replaced, the one with the highest score is replaced if its score is above the new frame's
    score. If not, the new frame does not enter. The score is timeliness / (1 + exp(-age /
    capacity)) + uncertainty * H / ln C.

    Args:
        capacity: Number of frames, from 1.
        classes: Number of classes, C.
        timeliness, uncertainty: Weights of the score.
    """

    def __init__(self, capacity: int, classes: int, timeliness: float, uncertainty: float) -> None:
        self.capacity, self.classes = capacity, classes
        self.timeliness, self.uncertainty = timeliness, uncertainty
        self.items: list[BankedFrame] = []

    def score(self, item: BankedFrame) -> float:
        """The score of a frame; the frame with the highest score leaves the bank first."""
        old = self.timeliness / (1 + exp(-item.age / self.capacity))
        return old + self.uncertainty * item.uncertainty / log(self.classes)

    def add(self, item: BankedFrame) -> bool:
        """Offers a frame and raises the age of all frames; returns whether the frame entered."""
        rivals = self._rivals(item.category)
        worst = max(reversed(rivals), key=self.score, default=None)
        enters = worst is None or self.score(worst) > self.score(item)
        if enters:
            self.items = [other for other in self.items if other is not worst] + [item]
        for other in self.items:
            other.age += 1
        return enters

    def _rivals(self, category: int) -> list[BankedFrame]:
        """The frames that a new one of this category may replace; empty if there is room."""
        counts = [0] * self.classes
        for item in self.items:
            counts[item.category] += 1
        if counts[category] >= self.capacity / self.classes:
            return [item for item in self.items if item.category == category]
        if len(self.items) < self.capacity:
            return []
        return [item for item in self.items if counts[item.category] == max(counts)]

    def apply(self, fn) -> None:
        """Moves or converts all frames."""
        for item in self.items:
            item.frame = fn(item.frame)

    def state(self) -> list[dict[str, Any]]:
        """Copies of all frames with their category, uncertainty, age and padding."""
        return [{**asdict(item), 'frame': item.frame.clone()} for item in self.items]

    def fits(self, state: Any) -> bool:
        """Whether ``load`` can restore this saved state."""
        keys = {field.name for field in fields(BankedFrame)}
        return (
            isinstance(state, list)
            and len(state) <= self.capacity
            and all(isinstance(item, dict) and item.keys() == keys for item in state)
            and all(isinstance(item['frame'], Tensor) for item in state)
            and all(0 <= item['category'] < self.classes for item in state)
        )

    def load(self, state: list[dict[str, Any]], like: Tensor) -> None:
        """Restores the frames of ``state``, on the device and with the dtype of ``like``."""
        self.items = [
            BankedFrame(**{**item, 'frame': item['frame'].to(like, copy=True)}) for item in state
        ]


def timeliness_weight(age: float) -> float:
    """exp(-a) / (1 + exp(-a)); a is the age as a multiple of the bank's capacity (Eq. 7)."""
    return exp(-age) / (1 + exp(-age))


def class_shares(logits: Tensor) -> Tensor:
    """The shares of the predicted classes in (1, C, H, W) logits: (C,), with sum 1."""
    counts = torch.bincount(logits.argmax(dim=1).flatten(), minlength=logits.shape[1])
    return counts.to(logits.dtype) / counts.sum()
