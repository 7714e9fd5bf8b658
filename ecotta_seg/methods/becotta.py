"""BECoTTA: routers blend low-rank experts, which learn by the entropy of confident pixels.

Taken from Lee, Yoon and Hwang, ICML 2024 (arXiv 2402.08712), and their public code: the mixture of
domain low-rank experts (MoDE), the domain-adaptive routing, the domain-expert synergy loss and the
initialisation on the source in made weather (``ExpertWarmUp``). The class names the differences.
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
        options: ``num_parts`` and ``split`` of ``AdaptedEncoder``, and of ``LowRankExperts``.
        seed: Seed of the start.

    Returns:
        The encoder, now the segmentor's backbone.

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

    The routers have no use without the initialisation: ``tools/warm_up.py --method becotta`` trains
    them on the source's training set in made weather, with labels. The option ``adapters`` is the
    file that the tool writes. Without this file the method starts as the source, bit for bit, and
    has one router with random weights, because the classifier has measured no domain.
    ``meta_networks.domains=('clear',)`` is the paper's setting without made weather.

    Deviations: experts at the end of each part; the public code has them after each block of a
    SegFormer. The experts start at 0. The router reads the mean of the features and not the sum,
    which grows with the frame. Its weights pass gradients; in the public code they are constants,
    so that no router learns. Noise in the warm-up alone; the public code adds noise in the test,
    too. The domain is the nearest one by the statistics of the first part's features; the public
    code trains a network of 8 million weights on the frame. The loss is the entropy of the pixels
    below a threshold. The public code learns from labels that it makes of several views by the
    largest probability, and returns 1 % of the parameters to their start after each step.

    Args:
        segmentor: The source model.
        meta_networks: See ``attach_experts``.
        optimizer: A config of a torch optimizer.
        entropy_threshold: κ as a multiple of ln C, above 0 (0.4).
        adapters: File of warmed-up experts; None for the start.
        seed: Seed of the start.

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
        """See base class: frees the domain of the frame."""
        super().discard()
        self.encoder.meta_networks[0].choice.domains = None

    def learn(self, logits: Tensor, share: float) -> None:
        """See base class: the mean entropy of the pixels below κ."""
        entropy, fraction = confident_entropy(logits, self.entropy_threshold)
        if entropy.requires_grad:
            (share * entropy).backward()
        record = self.last_step
        record.entropy += share * float(entropy.detach())
        record.confident_fraction += share * float(fraction)
        record.loss = record.entropy
