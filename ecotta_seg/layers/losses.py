"""The losses of test-time adaptation, as pure functions of logits and features."""

from typing import Callable, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from ..memory.lean.autograd_ops.pixel_entropy import pixel_entropy

# Features of a smaller mean size count as this size.
SMALLEST_SIZE = 1e-6


class ConfidentEntropy(NamedTuple):
    """The result of ``weighted_entropy``.

    Attributes:
        loss: Scalar, in nats; 0 without a graph if no pixel is confident.
        confident_fraction: Scalar in 0 to 1, no gradient.
    """

    loss: Tensor
    confident_fraction: Tensor


def confident_weights(entropy: Tensor, threshold: float) -> Tensor:
    """Weights with which sum(weights * entropy) is the mean over the pixels with entropy below H0.

    See EcoTTA, arXiv 2303.01904, Eq. 2; the paper's H0 is 0.4 ln C. If no pixel is below H0, all
    weights are 0. (Public ports take the mean of an empty set there and get NaN.)

    Args:
        entropy: (N, H, W) in nats, without a graph.
        threshold: H0, in nats.

    Returns:
        (N, H, W): 1 / (number of confident pixels) for a confident pixel, 0 for any other.
    """
    confident = entropy < threshold
    return confident / confident.sum().clamp(min=1).to(entropy.dtype)


def class_balanced_weights(
    entropy: Tensor, logits: Tensor, threshold: float, exponent: float
) -> Tensor:
    """Like ``confident_weights``, but pixels of rarer predicted classes have larger weights (ours).

    A confident pixel of class c has the weight n_c ** -exponent, where n_c is the number of
    confident pixels of that class in the frame. Exponent 0 gives the plain mean over pixels, and
    exponent 1 the mean of the classes' means. In a plain mean, road, buildings and sky dominate,
    and the model stops predicting rare classes.

    Args:
        entropy: (N, H, W) in nats, without a graph.
        logits: (N, C, H, W), without a graph.
        threshold: H0, in nats.
        exponent: 0 to 1.

    Returns:
        (N, H, W), weights that sum to 1, or all 0 if no pixel is confident.
    """
    confident = (entropy < threshold).to(entropy.dtype)
    predicted = logits.argmax(dim=1)
    counts = entropy.new_zeros(logits.shape[1], dtype=torch.float64)
    counts.scatter_add_(0, predicted.flatten(), confident.flatten().double())
    weights = counts.clamp_(min=1).pow_(-exponent).to(entropy.dtype)[predicted].mul_(confident)
    return weights.div_(weights.sum().clamp(min=torch.finfo(entropy.dtype).tiny))


def weighted_entropy(logits: Tensor, weigh: Callable[[Tensor, Tensor], Tensor]) -> ConfidentEntropy:
    """Computes sum(weights * entropy), with gradients through the entropy but not the weights.

    Args:
        logits: (N, C, H, W).
        weigh: Maps entropy (N, H, W) and logits, both without a graph, to weights (N, H, W).

    Returns:
        The loss and the share of pixels with a weight above 0. If the share is 0, the loss has no
        graph.
    """
    entropy = pixel_entropy(logits)
    weights = weigh(entropy.detach(), logits.detach())
    fraction = (weights > 0).sum() / weights.numel()
    if fraction > 0:
        return ConfidentEntropy((weights * entropy).sum(), fraction)
    return ConfidentEntropy(logits.new_zeros(()), fraction)


def confident_entropy(logits: Tensor, threshold: float) -> ConfidentEntropy:
    """``weighted_entropy`` with ``confident_weights``."""
    return weighted_entropy(logits, lambda entropy, _: confident_weights(entropy, threshold))


def class_balanced_confident_entropy(
    logits: Tensor, threshold: float, exponent: float
) -> ConfidentEntropy:
    """``weighted_entropy`` with ``class_balanced_weights``."""
    return weighted_entropy(
        logits, lambda entropy, z: class_balanced_weights(entropy, z, threshold, exponent)
    )


def symmetric_cross_entropy(first: Tensor, second: Tensor) -> Tensor:
    """Per pixel, the mean of both cross-entropies of two (N, C, H, W) logits: (N, H, W)."""
    one, other = first.log_softmax(dim=1), second.log_softmax(dim=1)
    return -0.5 * (other.exp() * one + one.exp() * other).sum(dim=1)


def self_distilled_regularisation(
    adapted: Tensor, frozen: Tensor, relative: bool = False, smoothing: float = 0.0
) -> Tensor:
    """R_k = mean |x̃_k - x_k| (EcoTTA, arXiv 2303.01904, Eq. 3 and Algorithm 1).

    The slope of |d| jumps at d = 0, and the regulariser pulls every d towards 0. So rounding
    decides the sign of many gradients, and after some dozen frames two machines learn different
    weights. With a ``smoothing`` the loss is quadratic near 0 (smooth L1), and rounding has only
    small effects.

    Args:
        adapted: x̃_k, (N, C, H, W).
        frozen: x_k, the same shape; no gradient flows into it.
        relative: Whether to divide by mean |x_k| (1e-6 at least); ours.
        smoothing: The knee b of the smooth L1 as a multiple of mean |x_k|, from 0; ours. If |d| is
            below b, the distance is d² / 2b, else |d| - b / 2. 0 gives the paper's L1.

    Returns:
        Scalar, at least 0; float32 if the features have half precision (autocast).
    """
    dtype = torch.promote_types(adapted.dtype, torch.float32)
    adapted, frozen = adapted.to(dtype), frozen.detach().to(dtype)
    if not relative and not smoothing:
        return F.l1_loss(adapted, frozen)
    size = frozen.abs().mean().clamp(min=SMALLEST_SIZE)
    if smoothing:
        # In a dry run the tensors have no values. Any knee needs the same memory.
        knee = smoothing * (1.0 if size.is_meta else float(size))
        difference = F.smooth_l1_loss(adapted, frozen, beta=knee)
    else:
        difference = F.l1_loss(adapted, frozen)
    return difference / size if relative else difference


def smooth_distance_(difference: Tensor, knee: float) -> Tensor:
    """|d| per element if ``knee`` is 0, else the smooth L1 of d; overwrites ``difference``."""
    distance = difference.abs_()
    if not knee:
        return distance
    near = distance.clamp(max=knee)
    return distance.sub_(near, alpha=0.5).mul_(near).div_(knee)


def smooth_slope_(difference: Tensor, knee: float) -> Tensor:
    """The derivative of ``smooth_distance_`` for a knee above 0; overwrites ``difference``."""
    return difference.div_(knee).clamp_(-1, 1)
