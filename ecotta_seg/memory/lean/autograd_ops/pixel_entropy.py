"""Entropy of full-resolution predictions and its gradient, a band of rows at a time.

With plain autograd, log-softmax, its exponential and their product each take the memory of the
full-resolution logits, and so do their gradients. Here the gradient overwrites the logits, one band
of rows after the other, and temporaries exist only for one band at a time.
"""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor
from torch.overrides import handle_torch_function, has_torch_function_unary

from .resize import resize_bilinear, resize_input_gradient
from .spans import spans

# Elements of a band: few enough for the cache, but enough work for all cores.
BAND_ELEMENTS = 2**20


def _bands(logits: Tensor) -> tuple[slice, ...]:
    frames, channels, height, width = logits.shape
    rows = max(1, BAND_ELEMENTS // max(1, frames * channels * width))
    return spans(height, rows, logits.device)


def pixel_entropy(logits: Tensor) -> Tensor:
    """Entropy of each pixel's class distribution.

    Args:
        logits: (N, C, H, W), any real numbers.

    Returns:
        (N, H, W) in nats, 0 to ln C.
    """
    if has_torch_function_unary(logits):
        return handle_torch_function(pixel_entropy, (logits,), logits)
    log_probabilities = logits.log_softmax(dim=1)
    return -(log_probabilities.exp() * log_probabilities).sum(dim=1)


def entropy_map(logits: Tensor) -> Tensor:
    """Entropy of each pixel, without a graph; equal to ``pixel_entropy``.

    Args:
        logits: (N, C, H, W).

    Returns:
        (N, H, W) in nats, 0 to ln C.
    """
    entropy = logits.new_empty(logits.shape[0], *logits.shape[2:])
    for rows in _bands(logits):
        log_probabilities = logits[:, :, rows].log_softmax(dim=1)
        weighted = log_probabilities.exp().mul_(log_probabilities)
        entropy[:, rows] = -weighted.sum(dim=1)
        # Free these tensors before those of the next band are computed.
        del log_probabilities, weighted
    return entropy


def entropy_gradient_(logits: Tensor, entropy: Tensor, weights: Tensor) -> Tensor:
    """The gradient of sum(weights * entropy) with respect to the logits, in place.

    Args:
        logits: (N, C, H, W), overwritten with the gradient.
        entropy: (N, H, W), of ``entropy_map``.
        weights: (N, H, W), constants.

    Returns:
        ``logits``.
    """
    for rows, gradient in entropy_bands(logits, entropy, weights):
        logits[:, :, rows].copy_(gradient)
        del gradient
    return logits


def entropy_bands(
    logits: Tensor, entropy: Tensor, weights: Tensor
) -> Iterator[tuple[slice, Tensor]]:
    """The gradient of sum(weights * entropy) with respect to the logits, band by band.

    dH / dz_c = -p_c (log p_c + H).

    Args:
        logits: (N, C, H, W).
        entropy: (N, H, W), of ``entropy_map``.
        weights: (N, H, W), constants.

    Yields:
        Rows, and the gradient of these rows (N, C, rows, W). The caller should drop each gradient
        before it requests the next.
    """
    for rows in _bands(logits):
        yield rows, _entropy_gradient(logits[:, :, rows], entropy[:, rows], weights[:, rows])


def _entropy_gradient(logits: Tensor, entropy: Tensor, weights: Tensor) -> Tensor:
    log_probabilities = logits.log_softmax(dim=1)
    gradient = log_probabilities.exp()
    gradient.mul_(log_probabilities.add_(entropy[:, None]))
    return gradient.mul_(weights[:, None]).neg_()


def log_likelihood_map(logits: Tensor, classes: Tensor) -> Tensor:
    """The log probability of a given class for each pixel, without a graph.

    Args:
        logits: (N, C, H, W).
        classes: (N, H, W) int64, 0 to C - 1.

    Returns:
        (N, H, W), at most 0.
    """
    likelihood = logits.new_empty(logits.shape[0], *logits.shape[2:])
    for rows in _bands(logits):
        log_probabilities = logits[:, :, rows].log_softmax(dim=1)
        likelihood[:, rows] = log_probabilities.gather(1, classes[:, None, rows])[:, 0]
        del log_probabilities
    return likelihood


def log_likelihood_bands(
    logits: Tensor, classes: Tensor, weights: Tensor
) -> Iterator[tuple[slice, Tensor]]:
    """The gradient of sum(weights * log likelihood) with respect to the logits, band by band.

    d log p_y / dz_c = 1[c = y] - p_c.

    Args:
        logits, classes: See ``log_likelihood_map``.
        weights: (N, H, W), constants.

    Yields:
        Rows and their gradient, as in ``entropy_bands``.
    """
    for rows in _bands(logits):
        yield rows, _likelihood_gradient(logits[:, :, rows], classes[:, rows], weights[:, rows])


def _likelihood_gradient(logits: Tensor, classes: Tensor, weights: Tensor) -> Tensor:
    gradient = logits.softmax(dim=1).mul_(weights[:, None]).neg_()
    return gradient.scatter_add_(1, classes[:, None], weights[:, None].contiguous())


class _ResizedWeightedEntropy(torch.autograd.Function):
    @staticmethod
    def forward(ctx, logits, weights, size, align_corners):
        full = resize_bilinear(logits, size, align_corners)
        entropy = entropy_map(full)
        ctx.save_for_backward(logits, weights, entropy)
        ctx.options = (tuple(size), align_corners)
        return (weights * entropy).sum()

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad):
        logits, weights, entropy = ctx.saved_tensors
        size, align_corners = ctx.options
        full = resize_bilinear(logits, size, align_corners)
        if full is logits or full.data_ptr() == logits.data_ptr():
            full = full.clone()
        gradient = entropy_gradient_(full, entropy, weights * grad)
        return resize_input_gradient(gradient, logits.shape, align_corners), None, None, None


def resized_weighted_entropy(
    logits: Tensor, weights: Tensor, size: Sequence[int], align_corners: bool = False
) -> Tensor:
    """sum(weights * entropy) of logits resized to ``size``; keeps only the small logits.

    Args:
        logits: (N, C, h, w), of the decode head; the gradient flows to them alone.
        weights: (N, H, W), constants.
        size: (H, W).
        align_corners: Option of the bilinear resizing.

    Returns:
        Scalar.
    """
    return _ResizedWeightedEntropy.apply(logits, weights, size, align_corners)
