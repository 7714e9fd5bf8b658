"""EcoTTA+ (ours): as light as EcoTTA, no source data needed, and no decay on long drives."""

import torch
from torch import Tensor, nn

from .ecotta import MetaNetworkAdaptation
from .losses import class_balanced_weights
from .registry import ADAPTATION_METHODS


@ADAPTATION_METHODS.register_module(name='ecotta_plus')
class AnchoredMetaNetworks(MetaNetworkAdaptation):
    """Meta networks with an identity start, class-balanced entropy and a pull to where they began.

    What differs from EcoTTA (arXiv 2303.01904):

    - The entropy of confident pixels is averaged class by class: road and buildings do not drown
      what is small, which is what a plain mean lets die first.
    - After every update the parameters go back a little towards their start. A sum of steps that
      would grow without end becomes a mean over the last ``1 / restore_rate`` frames.

    Args:
        segmentor: The source model.
        restore_rate: Share of the way back to the start that is gone after each update, 0 to 1.
        class_balance: Exponent of the class weights: 0 for the plain mean over pixels, 1 for
            equal weight to each class that the frame holds.
        **options: See ``MetaNetworkAdaptation``.

    Raises:
        ValueError: An option is out of range; see also base class.
    """

    def __init__(
        self,
        segmentor: nn.Module,
        restore_rate: float = 0.01,
        class_balance: float = 0.5,
        **options,
    ) -> None:
        if not 0 <= restore_rate <= 1 or not 0 <= class_balance <= 1:
            raise ValueError(
                'expected restore_rate and class_balance from 0 to 1, got '
                f'{restore_rate} and {class_balance}'
            )
        super().__init__(segmentor, **options)
        self.restore_rate, self.class_balance = restore_rate, class_balance

    def pixel_weights(self, entropy: Tensor, logits: Tensor) -> Tensor:
        """See base class."""
        return class_balanced_weights(entropy, logits, self.entropy_threshold, self.class_balance)

    def after_update(self) -> None:
        """See base class: the pull back."""
        self.restore()

    @torch.no_grad()
    def restore(self) -> None:
        """Moves every parameter ``restore_rate`` of the way to its start."""
        for name, parameter in self.adaptable_parameters().items():
            parameter.lerp_(self._initial[name], self.restore_rate)
