"""The uncertainty of a prediction: its variance under dropout (MC dropout, arXiv 1506.02142)."""

from collections.abc import Iterator
from typing import Any, Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..layers.classifier import find_classifier
from .autocast import as_in_network
from .windows import over_windows


@torch.no_grad()
def dropout_variance(
    segmentor: nn.Module,
    inputs: Tensor,
    metas: list[dict],
    samples: int = 10,
    rate: float = 0.5,
    seed: int = 0,
) -> Tensor:
    """Σ_c Var[p_c] of each pixel: the variance of the probabilities over dropout predictions.

    The dropout removes channels of the maps before the classifier, the head's ``conv_seg``, and
    only the classifier runs once more for each sample. If a head has no such layer, the dropout
    removes channels of the backbone's maps, and the head runs once more for each sample. The
    variance is computed in the size of the classifier's maps and enlarged.

    Args:
        segmentor: An mmseg ``EncoderDecoder`` in evaluation mode.
        inputs: (N, 3, H, W).
        metas: The metainfo of the N samples.
        samples: Number of predictions, from 2.
        rate: Share of the channels that are removed, from 0 to below 1.
        seed: The same seed removes the same channels on all devices.

    Returns:
        (N, 1, H, W), 0 to 1.
    """

    def run(crop: Tensor, window_metas: list[dict], share: float) -> Tensor:
        # The generator is on the CPU for every device, so that the draws are the same.
        draw = _Dropout(rate, torch.Generator().manual_seed(seed))
        variance = _variance(_predictions(segmentor, crop, window_metas, draw, samples))
        return F.interpolate(variance, crop.shape[2:], mode='bilinear', align_corners=False)

    return over_windows(segmentor, inputs, metas, run)[:, :1]


class _Dropout:
    """Removes random channels of (N, K, h, w) maps and enlarges the others by 1 / (1 - rate)."""

    def __init__(self, rate: float, generator: torch.Generator) -> None:
        self.rate, self.generator = rate, generator

    def __call__(self, maps: Any) -> Any:
        """Applies the dropout to a map, or to all maps in nested tuples and lists."""
        if isinstance(maps, (list, tuple)):
            return type(maps)(self(item) for item in maps)
        if not isinstance(maps, Tensor) or maps.dim() != 4:
            return maps
        kept = torch.rand(maps.shape[1], generator=self.generator) >= self.rate
        return maps * (kept.to(maps) / (1 - self.rate)).view(1, -1, 1, 1)


def _predictions(
    segmentor: nn.Module,
    crop: Tensor,
    metas: list[dict],
    drop: Callable[[Any], Any],
    samples: int,
) -> Iterator[Tensor]:
    """Yields the logits (N, C, h, w) of each dropout prediction."""
    classifier = find_classifier(segmentor)
    features, seen = segmentor.extract_feat(crop), []
    # An attribute of the object replaces the method, so that every kind of segmentor predicts from
    # the same maps. Under autocast there is such an attribute already.
    own = vars(segmentor).get('extract_feat')
    segmentor.extract_feat = lambda inputs: features
    try:
        if classifier is not None:
            hook = classifier.register_forward_pre_hook(lambda module, args: seen.append(args[0]))
            try:
                segmentor.encode_decode(crop, metas)
            finally:
                hook.remove()
        if seen:
            for _ in range(samples):
                with as_in_network(segmentor, crop):
                    logits = classifier(drop(seen[-1]))
                yield _of_two_classes(logits.to(crop.dtype))
            return
        for _ in range(samples):
            segmentor.extract_feat = lambda inputs: drop(features)
            yield segmentor.encode_decode(crop, metas)
    finally:
        del segmentor.extract_feat
        if own is not None:
            segmentor.extract_feat = own


def _of_two_classes(logits: Tensor) -> Tensor:
    """The logits 0 and z of a classifier with one output z; any other logits stay."""
    if logits.shape[1] > 1:
        return logits
    return torch.cat([torch.zeros_like(logits), logits], dim=1)


def _variance(predictions: Iterator[Tensor]) -> Tensor:
    """Σ_c Var[p_c] over (N, C, h, w) logits: (N, 1, h, w). Holds one prediction at a time."""
    mean = squares = None
    for number, logits in enumerate(predictions, 1):
        p = logits.softmax(dim=1)
        if mean is None:
            mean, squares = p, torch.zeros_like(p)
            continue
        away = p - mean
        mean += away / number
        squares += away * (p - mean)
    return squares.div_(number).sum(dim=1, keepdim=True)
