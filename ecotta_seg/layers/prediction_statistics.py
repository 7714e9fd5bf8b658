"""Statistics of predictions: agreement, entropy and class diversity."""

from math import log

import torch
from torch import Tensor

from .losses import pixel_entropy


def mask_agreement(current: Tensor, reference: Tensor, min_share: float = 0.002) -> float:
    """Mean IoU of two class masks, over the classes with enough pixels in the reference.

    A model that collapses loses small classes first. The share of equal pixels would hardly change.

    Args:
        current: Integer class indices, in a tensor of any shape with at least one pixel.
        reference: The same shape.
        min_share: A class does not count if its share of the reference's pixels is smaller than
            this.

    Returns:
        0 to 1; 1 if the two masks are equal.
    """
    current, reference = current.flatten().long(), reference.flatten().long()
    classes = int(torch.maximum(current.max(), reference.max())) + 1
    pairs = torch.bincount(current * classes + reference, minlength=classes**2)
    pairs = pairs.reshape(classes, classes).double()
    both, union = pairs.diagonal(), pairs.sum(0) + pairs.sum(1) - pairs.diagonal()
    there = pairs.sum(0) >= max(1.0, min_share * current.numel())
    return float((both[there] / union[there]).mean())


def largest_share(logits: Tensor) -> float:
    """The share of the frame's pixels in its most frequent class: 0 to 1.

    Only every fourth row and column counts.

    Args:
        logits: (N, C, H, W).
    """
    masks = logits.detach()[:, :, ::4, ::4].argmax(1)
    counts = torch.bincount(masks.flatten(), minlength=logits.shape[1])
    return float(counts.max()) / float(counts.sum())


def mean_entropy(logits: Tensor) -> float:
    """Mean entropy in nats over every fourth row and column.

    Args:
        logits: (N, C, H, W).
    """
    return float(pixel_entropy(logits.detach()[:, :, ::4, ::4]).mean())


def class_diversity(logits: Tensor) -> float:
    """Entropy of the mean class probabilities in nats, 0 to ln C, over every fourth row and column.

    Args:
        logits: (N, C, H, W).
    """
    shares = logits.detach()[:, :, ::4, ::4].softmax(1).mean((0, 2, 3))
    return float(torch.special.entr(shares).sum())


def entropy_share(logits: Tensor) -> float:
    """``mean_entropy`` as a share of its maximum, ln C."""
    return mean_entropy(logits) / log(max(2, logits.shape[1]))


def surest_half(logits: Tensor) -> Tensor:
    """Marks the half of the pixels with the lowest entropy.

    Args:
        logits: (N, C, H, W).

    Returns:
        (N, H, W) booleans: True if the entropy of the pixel is at most the median.
    """
    entropy = pixel_entropy(logits.detach())
    return entropy <= entropy.median()
