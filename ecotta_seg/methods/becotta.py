"""BECoTTA: routers blend low-rank experts, which learn by the entropy of confident pixels.

Taken from Lee, Yoon and Hwang, ICML 2024 (arXiv 2402.08712), and their public code: the mixture of
domain low-rank experts (MoDE), the domain-adaptive routing, the domain-expert synergy loss and the
initialisation on source data with synthetic weather (``ExpertWarmUp``). The docstring of the class
lists the differences.
"""

from math import log
from typing import Optional

from torch import Tensor, nn

from ..layers.losses import confident_entropy
from ..layers.low_rank_experts import LowRankExperts, connect
from ..meta_networks import MetaEncoder, load_adapters, prepare_meta_networks
from ..registry import ADAPTATION_METHODS
from .gradient_adaptation import GradientAdaptation


def attach_experts(segmentor: nn.Module, options: dict, seed: int) -> MetaEncoder:
    """Attaches low-rank experts to the parts of a backbone, for adaptation and warm-up alike.

    Args:
        segmentor: Changed in place; all its own parameters are frozen.
        options: ``num_parts`` and ``split`` of ``AdaptedEncoder``, and the options of
            ``LowRankExperts``.
        seed: Seed of the initial weights.

    Returns:
        The encoder, which is now the segmentor's backbone.

    Raises:
        TypeError, ValueError: See ``prepare_meta_networks``.
    """
    encoder = prepare_meta_networks(segmentor, options, layer=LowRankExperts)
    connect(list(encoder.meta_networks), seed)
    return encoder


@ADAPTATION_METHODS.register_module(name='becotta')
class BECoTTA(GradientAdaptation):
    """Input-dependent online blending of experts (Lee et al., ICML 2024, arXiv 2402.08712).

    Low-rank experts are added to the output of each part of the frozen backbone. The domain of a
    frame selects a router, and the router blends the best experts. For each frame, the experts and
    the routers learn by the mean entropy of the confident pixels.

    The routers need an initialisation: ``tools/warm_up.py --method becotta`` trains them on the
    labelled training set of the source, with synthetic weather. The option ``adapters`` names the
    file that the tool writes. Without this file, the first predictions equal those of the source,
    bit for bit, and all frames use one router with random weights, because the classifier of
    domains has measured nothing. ``meta_networks.domains=('clear',)`` is the paper's setting
    without synthetic weather.

    Deviations: the experts are at the end of each part; in the public code they are after each
    block of a SegFormer. The experts start at 0. The router reads the mean of the features and not
    the sum, which grows with the frame. The router's output weights have gradients; in the public
    code they are constants, so that no router learns. The router has noise only in the warm-up; the
    public code adds noise during the test as well. The domain of a frame is the nearest one by the
    statistics of the first part's features; the public code trains a network of 8 million weights
    that reads the frame. The loss is the entropy of the pixels below a threshold. The public code
    learns from pseudo-labels, for which it takes the largest probability over several views, and
    resets 1 % of the parameters to their initial values after each step.

    Args:
        segmentor: The source model.
        meta_networks: See ``attach_experts``.
        optimizer: A config of a torch optimizer.
        entropy_threshold: κ as a multiple of ln C, above 0 (0.4).
        adapters: File of warmed-up experts; None for the initial weights.
        seed: Seed of the initial weights.

    Raises:
        ValueError: An option is unknown or out of range, or the adapters do not fit.
        TypeError: There is no backbone, or experts cannot be attached to it.
    """

    beyond_one_forward = 'experts that each frame chooses'
    warm_up_model = 'ExpertWarmUp'

    def __init__(
        self,
        segmentor: nn.Module,
        meta_networks: dict,
        optimizer: dict,
        entropy_threshold: float = 0.4,
        adapters: Optional[str] = None,
        seed: int = 0,
    ) -> None:
        if entropy_threshold <= 0:
            raise ValueError(f'expected entropy_threshold above 0, got {entropy_threshold}')
        super().__init__(segmentor, optimizer)
        self.encoder = attach_experts(segmentor, meta_networks, seed)
        if adapters is not None:
            load_adapters(self.encoder, adapters)
        for layer in self.encoder.meta_networks:
            # Noise is part of the warm-up alone.
            layer.noise.requires_grad_(False)
        self.entropy_threshold = entropy_threshold * log(segmentor.out_channels)
        self.start()

    def adapter_parameters(self) -> dict[str, nn.Parameter]:
        """See base class."""
        return self.adaptable_parameters()

    def propose(self, inputs: Tensor, metas: list[dict]) -> Tensor:
        """See base class."""
        self.last_step.loss = self.last_step.entropy = self.last_step.confident_fraction = 0.0
        return super().propose(inputs, metas)

    def discard(self) -> None:
        """See base class. Also frees the domain of the frame."""
        super().discard()
        self.encoder.meta_networks[0].choice.domains = None

    def learn(self, logits: Tensor, share: float) -> None:
        """See base class. The loss is the mean entropy of the pixels below κ."""
        entropy, fraction = confident_entropy(logits, self.entropy_threshold)
        if entropy.requires_grad:
            (share * entropy).backward()
        record = self.last_step
        record.entropy += share * float(entropy.detach())
        record.confident_fraction += share * float(fraction)
        record.loss = record.entropy
