"""The unchanged source model: the baseline for adaptation."""

from torch import Tensor

from ..registry import ADAPTATION_METHODS
from .base import AdaptationMethod


@ADAPTATION_METHODS.register_module(name='source')
class SourceModel(AdaptationMethod):
    """Predicts with the source weights and learns nothing."""

    def __init__(self, segmentor) -> None:
        super().__init__(segmentor.requires_grad_(False))

    def propose(self, inputs: Tensor, metas: list[dict]) -> Tensor:
        """See base class."""
        return self.predict(inputs, metas)
