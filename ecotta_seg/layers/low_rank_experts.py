"""Mixtures of low-rank experts on a network's features; the domain of a frame selects a router."""

from collections.abc import Sequence
from typing import Optional

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..memory.lean.autograd_ops.frame_region import FrameRegion, of_frame
from ..names.choices import WEATHER

# From the public code: the least noise of a router, and the standard deviation of initial weights.
_LEAST_NOISE, _START = 0.01, 0.02


class DomainChoice:
    """The domains of the frames in one forward pass; all layers of a network share this object.

    Attributes:
        given: (N,) int64, the known domains; None if the classifier has to find the domains.
        domains: (N,) int64, the domains whose routers the latest forward pass used.
    """

    given: Optional[Tensor] = None
    domains: Optional[Tensor] = None


class DomainClassifier(nn.Module):
    """Finds the domain whose features have the most similar statistics.

    The statistics of a frame are the mean and the standard deviation of each channel. The
    classifier measures the mean of these statistics for each domain and their variance within the
    domains. For a frame it chooses the domain with the least squared distance, in units of this
    variance. Before the first measurement it chooses domain 0.

    Args:
        channels: C of the features.
        domains: Number of domains.
    """

    def __init__(self, channels: int, domains: int) -> None:
        super().__init__()
        self.register_buffer('counts', torch.zeros(domains))
        self.register_buffer('means', torch.zeros(domains, 2 * channels))
        self.register_buffer('scatter', torch.zeros(2 * channels))

    @staticmethod
    def statistics(features: Tensor) -> Tensor:
        """(N, C, L) features to (N, 2 C): mean and standard deviation of each channel."""
        means = features.mean(dim=2)
        return torch.cat([means, features.std(dim=2, unbiased=False)], dim=1)

    @torch.no_grad()
    def measure(self, features: Tensor, domains: Tensor) -> None:
        """Updates the measured means and variances with frames of known domains.

        Args:
            features: (N, C, L).
            domains: (N,) int64.
        """
        for values, domain in zip(self.statistics(features), domains.tolist()):
            self.counts[domain] += 1
            away = values - self.means[domain]
            self.means[domain] += away / self.counts[domain]
            self.scatter += away * (values - self.means[domain])

    @torch.no_grad()
    def forward(self, features: Tensor) -> Tensor:
        """(N, C, L) features to (N,) int64 domains."""
        away = self.statistics(features).unsqueeze(1) - self.means
        tiny = torch.finfo(self.scatter.dtype).tiny
        distance = (away.square() / self.scatter.clamp(min=tiny)).sum(dim=2)
        return distance.masked_fill(self.counts == 0, float('inf')).argmin(dim=1)


class LowRankExperts(nn.Module):
    """Computes x + Σ g_e A_e(x) over the best experts e of a frame (BECoTTA, arXiv 2402.08712).

    An expert A_e is a pair of 1x1 convolutions with a GELU between them. The mean of the features
    passes the router of the frame's domain, which gives one logit for each expert. In training mode
    the router adds noise of a learned size. The ``top`` largest logits choose the experts, and
    their softmax gives the weights g. The experts start at 0, so that the features are unchanged,
    bit for bit.

    The layer takes the same arguments as a ``MetaNetwork``, because it also sits at the end of a
    part.

    Args:
        in_channels, stride: Those of the part; not used.
        out_channels: C.
        experts: E.
        top: Number of experts for each frame, 1 to E.
        reduction: The rank of an expert is C / ``reduction``, at least 1.
        domains: Names of the domains; each has a router.

    Attributes:
        region: The part of the features that the router reads, see ``measuring``.
        choice: The domains of the frames, see ``connect``.
        classifier: Finds the domains of the frames; None if the classifier of another layer does.
        assigned: (N, E), the softmax of the router's logits without noise, with a graph, from the
            latest forward pass in training mode.

    Raises:
        ValueError: An option is out of range.
    """

    region: Optional[FrameRegion] = None

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        stride: int = 1,
        experts: int = 6,
        top: int = 3,
        reduction: int = 32,
        domains: Sequence[str] = ('clear', *WEATHER),
    ) -> None:
        super().__init__()
        known = {'clear', *WEATHER}
        if not 1 <= top <= experts or reduction < 1 or not domains or not set(domains) <= known:
            raise ValueError(
                'expected top from 1 to experts, reduction from 1 and some domains of '
                f'{sorted(known)}, got {top}, {experts}, {reduction} and {domains!r}'
            )
        rank = max(1, out_channels // reduction)
        self.top, self.rank, self.domains = top, rank, tuple(domains)
        self.route = nn.Parameter(torch.zeros(len(self.domains), experts, out_channels))
        self.noise = nn.Parameter(torch.zeros_like(self.route))
        self.down = nn.Parameter(torch.zeros(experts, rank, out_channels))
        self.down_bias = nn.Parameter(torch.zeros(experts, rank))
        self.up = nn.Parameter(torch.zeros(experts, out_channels, rank))
        self.up_bias = nn.Parameter(torch.zeros(experts, out_channels))
        self.choice = DomainChoice()
        self.classifier: Optional[DomainClassifier] = None
        self.assigned: Optional[Tensor] = None

    @torch.no_grad()
    def draw(self, generator: torch.Generator) -> None:
        """Draws the initial weights of the routers and of each expert's first convolution (CPU)."""
        for parameter in (self.route, self.noise, self.down):
            drawn = torch.empty(parameter.shape)
            nn.init.trunc_normal_(drawn, std=_START, generator=generator)
            parameter.copy_(drawn)

    def _route(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """(N, C, L) features to the weights and the numbers of the chosen experts: both (N, k)."""
        choice = self.choice
        if self.classifier is not None:
            if self.training and choice.given is not None:
                self.classifier.measure(features.detach(), choice.given)
            known = choice.given is not None
            choice.domains = choice.given if known else self.classifier(features.detach())
        mean = features.mean(dim=2).unsqueeze(2)
        logits = (self.route[choice.domains] @ mean).squeeze(2)
        if self.training:
            self.assigned = logits.softmax(dim=1)
            deviation = F.softplus((self.noise[choice.domains] @ mean).squeeze(2)) + _LEAST_NOISE
            logits = logits + deviation * torch.randn_like(logits)
        best, chosen = logits.topk(self.top, dim=1)
        return best.softmax(dim=1), chosen

    def forward(self, part_output: Tensor, part_input: Tensor) -> Tensor:
        """Adds the weighted outputs of the chosen experts to the features.

        Args:
            part_output: x, (N, C, H, W).
            part_input: Not used.

        Returns:
            (N, C, H, W).
        """
        gates, chosen = self._route(of_frame(part_output, self.region).flatten(2))
        down = self.down[chosen].flatten(1, 2)
        hidden = down @ part_output.flatten(2) + self.down_bias[chosen].flatten(1).unsqueeze(2)
        hidden = F.gelu(hidden) * gates.repeat_interleave(self.rank, dim=1).unsqueeze(2)
        # The matrices of all chosen experts lie side by side, so that one matrix product adds the
        # experts.
        up = self.up[chosen].transpose(1, 2).flatten(2)
        bias = (gates.unsqueeze(2) * self.up_bias[chosen]).sum(dim=1).unsqueeze(2)
        change = up @ hidden + bias
        return part_output + change.to(part_output.dtype).view_as(part_output)


def connect(layers: Sequence[LowRankExperts], seed: int) -> None:
    """Draws the initial weights of a network's layers; the layers then share one ``DomainChoice``.

    The first layer finds the domain, because no expert has changed the features that enter it.

    Args:
        layers: The layers in the order in which a forward pass runs them.
        seed: Seed of the initial weights.
    """
    generator, choice = torch.Generator().manual_seed(seed), DomainChoice()
    for layer in layers:
        layer.draw(generator)
        layer.choice = choice
    first = layers[0]
    classifier = DomainClassifier(first.route.shape[2], len(first.domains))
    first.classifier = classifier.to(first.route.device, first.route.dtype)


def synergy_loss(assigned: Tensor) -> Tensor:
    """The negative mutual information of domains and experts, with all domains equally likely.

    Args:
        assigned: (D, E), the probabilities of the experts in each domain; each row sums to 1.

    Returns:
        Scalar in nats, from -ln min(D, E) to 0.
    """
    experts = assigned.mean(dim=0, keepdim=True)
    tiny = torch.finfo(assigned.dtype).tiny
    ratio = assigned.clamp(min=tiny).log() - experts.clamp(min=tiny).log()
    return -(assigned * ratio).sum(dim=1).mean()
