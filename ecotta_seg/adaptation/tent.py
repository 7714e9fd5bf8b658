"""Tent: entropy minimisation over the affine parameters of the norms (Wang et al., ICLR 2021)."""

from torch import Tensor, nn

from .gradient_adaptation import GradientAdaptation
from .losses import pixel_entropy
from .norm_parameters import release_norm_parameters
from .registry import ADAPTATION_METHODS


@ADAPTATION_METHODS.register_module(name='tent')
class Tent(GradientAdaptation):
    """Frame statistics in every BatchNorm; scale and shift of all norms follow the entropy.

    Wang et al., arXiv 2006.10726, Section 3; see ``release_norm_parameters``.

    Args:
        segmentor: The source model.
        optimizer: A config of a torch optimizer.
    """

    def __init__(self, segmentor: nn.Module, optimizer: dict) -> None:
        super().__init__(segmentor, optimizer)
        release_norm_parameters(segmentor)
        self.start()

    def learn(self, logits: Tensor, share: float) -> None:
        """See base class: mean entropy over all pixels (arXiv 2006.10726, Eq. 1)."""
        loss = pixel_entropy(logits).mean()
        (share * loss).backward()
        record = self.last_step
        record.loss = record.entropy = float(loss.detach())
        record.confident_fraction = 1.0
