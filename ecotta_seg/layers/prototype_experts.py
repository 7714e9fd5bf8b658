"""A classifier whose probabilities are mixed with those of experts with class prototypes."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Optional

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..memory.lean.autograd_ops.frame_region import of_frame

_MOST_ROUNDS = 100


class PrototypeExperts(nn.Conv2d):
    """Replaces a 1x1 classifier; returns logarithms of mixed probabilities in place of logits.

    Each of the E experts has one prototype for each class, a vector of D features. Expert e gives
    class c the probability softmax over c of cosine(feature, prototype) / ``temperature``. A gating
    network gives each expert a weight per pixel: a 1x1 convolution on the cosines to all
    prototypes, and a softmax. The prediction of a pixel is

        s p + (1 - s) q,

    where p are the probabilities of the classifier and s is ``source_share``. For a class without a
    prototype, q equals p. The other classes share the rest of the probability as the weighted mean
    of the experts' probabilities. If no class has a prototype, the prediction is p. The gating
    network starts with equal weights.

    Args:
        classifier: A convolution with kernel size 1. The new layer shares its weight and bias.
        experts: E, from 1.
        temperature: Above 0.
        source_share: s, 0 to below 1.

    Attributes:
        prototypes: (E, C, D); zeros for a class without a prototype.
        known: (C,) bool, the classes with prototypes.
        gate_weight: (E, E C), learned.
        gate_bias: (E,), learned.
        region: The region of the map that is not padding, see ``measuring``; None if there is no
            padding.
        correlations: (N, E C, h, w), the cosines of the latest forward pass with gradients, without
            the padding; None before that.
    """

    calibrated_buffers = ('prototypes', 'known')

    def __init__(
        self, classifier: nn.Conv2d, experts: int, temperature: float, source_share: float
    ) -> None:
        # On the meta device, because these weights are replaced: no memory and no random numbers.
        super().__init__(classifier.in_channels, classifier.out_channels, 1, device='meta')
        self.weight, self.bias = classifier.weight, classifier.bias
        self.temperature, self.source_share = temperature, source_share
        # One logit z is two classes with the logits 0 and z.
        classes, like = max(2, self.out_channels), self.weight.detach()
        self.gate_weight = nn.Parameter(like.new_zeros(experts, experts * classes))
        self.gate_bias = nn.Parameter(like.new_zeros(experts))
        self.register_buffer(
            'prototypes', like.new_zeros(experts, classes, self.in_channels), persistent=False
        )
        self.register_buffer('known', like.new_zeros(classes, dtype=torch.bool), persistent=False)
        self.region = None
        self.correlations: Optional[Tensor] = None
        self._sums: Optional[Tensor] = None

    def forward(self, x: Tensor) -> Tensor:
        """(N, D, h, w) features to (N, outputs of the classifier, h, w)."""
        logits = super().forward(x)
        scores = logits.to(self.weight.dtype)
        if logits.shape[1] == 1:
            scores = torch.cat([torch.zeros_like(scores), scores], dim=1)
        if self._sums is not None:
            self._add(x, scores)
            return logits
        source = scores.softmax(dim=1)
        correlations = self._correlate(x)
        if torch.is_grad_enabled():
            self.correlations = of_frame(correlations, self.region).detach()
        unknown = (~self.known).to(source.dtype).view(1, -1, 1, 1)
        left = source * unknown
        experts = self._mixed(correlations) * (1 - left.sum(dim=1, keepdim=True)) + left
        mixed = self.source_share * source + (1 - self.source_share) * experts
        mixed = mixed.clamp(min=torch.finfo(mixed.dtype).tiny).log()
        if logits.shape[1] == 1:
            mixed = mixed[:, 1:] - mixed[:, :1]
        return mixed.to(logits.dtype)

    def _correlate(self, x: Tensor) -> Tensor:
        """The cosines of the features and all prototypes: (N, E C, h, w), -1 to 1."""
        directions = F.normalize(self.prototypes.flatten(0, 1), dim=1)
        products = F.conv2d(x, directions[:, :, None, None]).to(self.weight.dtype)
        lengths = torch.linalg.vector_norm(x.to(self.weight.dtype), dim=1, keepdim=True)
        return products / lengths.clamp(min=1e-6)

    def _select(self, correlations: Tensor) -> Tensor:
        """Runs the gating network: (N, E C, h, w) to weights (N, E, h, w) that sum to 1 over E."""
        scores = F.conv2d(correlations, self.gate_weight[:, :, None, None], self.gate_bias)
        return scores.to(self.weight.dtype).softmax(dim=1)

    def _mixed(self, correlations: Tensor) -> Tensor:
        """The experts' probabilities, mixed: (N, C, h, w), 0 on classes without prototypes."""
        gate, mixed = self._select(correlations), None
        absent = ~self.known.view(1, -1, 1, 1)
        least = torch.finfo(gate.dtype).min
        # One expert after the other, so that no more than one map of probabilities is temporary.
        for number, cosines in enumerate(correlations.chunk(gate.shape[1], dim=1)):
            scores = (cosines / self.temperature).masked_fill(absent, least)
            share = gate[:, number : number + 1] * scores.softmax(dim=1)
            mixed = share if mixed is None else mixed + share
        return mixed

    def selection(self) -> Tensor:
        """The mean weight of each expert over the pixels of the latest forward pass: (E,).

        Padding does not count. The result has a graph to the gating network's parameters, even if
        the forward pass kept no graph.
        """
        return self._select(self.correlations).mean(dim=(0, 2, 3))

    @contextmanager
    def collecting(self) -> Iterator[Tensor]:
        """Context manager in which the layer is the plain classifier and sums up features by class.

        Yields:
            (C, D + 1): the sum of the features of the pixels that the classifier assigns to each
            class, and the number of these pixels.
        """
        classes, channels = self.prototypes.shape[1:]
        self._sums = self.weight.new_zeros(classes, channels + 1, dtype=torch.float64)
        try:
            yield self._sums
        finally:
            self._sums = None

    def _add(self, x: Tensor, scores: Tensor) -> None:
        x, scores = of_frame(x, self.region), of_frame(scores, self.region)
        assigned = scores.argmax(dim=1).flatten()
        features = x.movedim(1, -1).flatten(0, 2).to(self._sums.dtype)
        self._sums[:, :-1].index_add_(0, assigned, features)
        self._sums[:, -1] += torch.bincount(assigned, minlength=len(self._sums))

    @torch.no_grad()
    def take(self, sums: Sequence[Tensor]) -> None:
        """Computes the prototypes from the sums of ``collecting``, one tensor per clear frame.

        For each class, the mean features of the frames are clustered. The class's prototype in
        expert e is the e-th largest cluster; if a class has fewer clusters, they repeat.
        """
        self.prototypes.zero_()
        self.known.zero_()
        for c, frames in enumerate(torch.stack(list(sums), dim=1).cpu()):
            frames = frames[frames[:, -1] > 0]
            if len(frames):
                centres = clusters(frames[:, :-1] / frames[:, -1:], len(self.prototypes))
                repeated = centres[torch.arange(len(self.prototypes)) % len(centres)]
                self.prototypes[:, c] = repeated.to(self.prototypes)
                self.known[c] = True


def clusters(points: Tensor, number: int) -> Tensor:
    """K-means without random numbers, so that a calibration is reproducible.

    The first centre is the point nearest to the mean. Each further centre is the point farthest
    from its nearest centre.

    Args:
        points: (n, D), n from 1.
        number: Number of clusters, from 1; at most the number of different points.

    Returns:
        (number or fewer, D), the means of the clusters, the largest cluster first.
    """
    number = min(number, len(points.unique(dim=0)))
    centres = points[_distances(points, points.mean(dim=0, keepdim=True)).argmin()][None]
    while len(centres) < number:
        farthest = _distances(points, centres).amin(dim=1).argmax()
        centres = torch.cat([centres, points[farthest][None]])
    nearest = None
    for _ in range(_MOST_ROUNDS):
        before, nearest = nearest, _distances(points, centres).argmin(dim=1)
        if before is not None and torch.equal(before, nearest):
            break
        members = [points[nearest == i] for i in range(number)]
        # A centre that has lost all points stays.
        centres = torch.stack([m.mean(dim=0) if len(m) else c for m, c in zip(members, centres)])
    counts = torch.bincount(nearest, minlength=number)
    return centres[counts.argsort(descending=True, stable=True)]


def _distances(points: Tensor, centres: Tensor) -> Tensor:
    """Squared distances: (n, D) and (k, D) to (n, k)."""
    return (points[:, None] - centres[None]).square().sum(dim=2)
