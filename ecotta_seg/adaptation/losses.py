"""The losses of test-time adaptation, as pure functions of logits and features."""

from typing import NamedTuple

import torch
from torch import Tensor


class ConfidentEntropy(NamedTuple):
    """The result of ``confident_entropy``.

    Attributes:
        loss: Scalar, in nats; 0 without a gradient where no pixel is confident.
        confident_fraction: Scalar in 0 to 1, no gradient.
    """

    loss: Tensor
    confident_fraction: Tensor


def pixel_entropy(logits: Tensor) -> Tensor:
    """Entropy of each pixel's class distribution.

    Args:
        logits: (N, C, H, W), any real numbers.

    Returns:
        (N, H, W) in nats, 0 to ln C.
    """
    log_probabilities = logits.log_softmax(dim=1)
    return -(log_probabilities.exp() * log_probabilities).sum(dim=1)


def confident_entropy(logits: Tensor, threshold: float) -> ConfidentEntropy:
    """Mean entropy over the pixels whose entropy is below H0 (EcoTTA, arXiv 2303.01904, Eq. 2).

    The paper's H0 is 0.4 ln C. Where no pixel passes, the public ports take the mean of an empty
    set and get NaN; here the loss is then 0 and depends on nothing.

    Args:
        logits: (N, C, H, W).
        threshold: H0, in nats.

    Returns:
        The loss and the share of confident pixels.
    """
    entropy = pixel_entropy(logits)
    confident = entropy.detach() < threshold
    count = confident.sum()
    if count == 0:
        return ConfidentEntropy(logits.new_zeros(()), logits.new_zeros(()))
    loss = torch.where(confident, entropy, entropy.new_zeros(())).sum() / count
    return ConfidentEntropy(loss, count.detach() / entropy.numel())


def class_balanced_confident_entropy(
    logits: Tensor, threshold: float, exponent: float
) -> ConfidentEntropy:
    """``confident_entropy`` with pixels weighted by how rare their predicted class is (ours).

    A confident pixel of class c weighs n_c ** -exponent, n_c the number of confident pixels of
    that class in the frame: 0 is the plain mean over pixels, 1 the mean over classes of their
    means. A plain mean is ruled by road, buildings and sky, and the rare classes die of it.

    Args:
        logits: (N, C, H, W).
        threshold: H0, in nats.
        exponent: 0 to 1.

    Returns:
        The loss and the share of confident pixels.
    """
    entropy = pixel_entropy(logits)
    confident = entropy.detach() < threshold
    if not confident.any():
        return ConfidentEntropy(logits.new_zeros(()), logits.new_zeros(()))
    predicted = logits.detach().argmax(dim=1)
    counts = torch.bincount(predicted[confident], minlength=logits.shape[1])
    weight = counts.clamp(min=1).to(entropy.dtype).pow(-exponent)[predicted]
    weight = torch.where(confident, weight, weight.new_zeros(()))
    fraction = confident.sum() / entropy.numel()
    return ConfidentEntropy((weight * entropy).sum() / weight.sum(), fraction)


def self_distilled_regularisation(adapted: Tensor, frozen: Tensor) -> Tensor:
    """R_k = mean |x̃_k - x_k| (EcoTTA, arXiv 2303.01904, Eq. 3 and Algorithm 1).

    Args:
        adapted: x̃_k, (N, C, H, W).
        frozen: x_k, the same shape; no gradient flows into it.

    Returns:
        Scalar, at least 0.
    """
    return (adapted - frozen.detach()).abs().mean()
