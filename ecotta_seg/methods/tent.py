"""Tent: entropy minimisation over the affine parameters of the norms (Wang et al., ICLR 2021)."""

from torch import Tensor, nn

from ..layers.losses import pixel_entropy
from ..layers.norm_parameters import release_norm_parameters
from ..registry import ADAPTATION_METHODS
from .gradient_adaptation import GradientAdaptation


@ADAPTATION_METHODS.register_module(name='tent')
class Tent(GradientAdaptation):
    """BatchNorms use the frame's statistics; scale and shift of all norms minimise the entropy.

    Wang et al., arXiv 2006.10726, Section 3; see ``release_norm_parameters``.

    Args:
        segmentor: The source model.
        optimizer: A config of a torch optimizer.
    """

    def __init__(self, segmentor: nn.Module, optimizer: dict) -> None:
        super().__init__(segmentor, optimizer)
        release_norm_parameters(segmentor)
        self.start()

    def propose(self, inputs: Tensor, metas: list[dict]) -> Tensor:
        """See base class."""
        self.last_step.loss = self.last_step.entropy = 0.0
        return super().propose(inputs, metas)

    def learn(self, logits: Tensor, share: float) -> None:
        """See base class. The loss is the mean entropy over pixels (arXiv 2006.10726, Eq. 1)."""
        loss = share * pixel_entropy(logits).mean()
        loss.backward()
        record = self.last_step
        record.entropy += float(loss.detach())
        record.loss, record.confident_fraction = record.entropy, 1.0
