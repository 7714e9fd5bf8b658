"""Batch-norm statistics of the frame in place of the source's: adaptation without learning."""

from torch import Tensor, nn

from .adaptive_batch_norm import replace_batch_norms
from .base import AdaptationMethod
from .registry import ADAPTATION_METHODS


@ADAPTATION_METHODS.register_module(name='batch_norm_statistics')
class BatchNormStatistics(AdaptationMethod):
    """Normalises by the frame's own statistics, or by a blend of them and the source's.

    'frame' is the prediction-time BatchNorm of Nado et al. (arXiv 2006.10963), 'blend' that of
    Schneider et al. (arXiv 2006.16971) with the blend weight given directly.

    Args:
        segmentor: The source model.
        mode: 'frame', 'blend' or 'drift', see ``AdaptiveBatchNorm2d``.
        weight: See ``AdaptiveBatchNorm2d``.

    Raises:
        ValueError: The model has no BatchNorm, so the method would do nothing.
    """

    def __init__(self, segmentor: nn.Module, mode: str = 'frame', weight: float = 1.0) -> None:
        super().__init__(segmentor.requires_grad_(False))
        if not replace_batch_norms(segmentor, mode, weight):
            raise ValueError(
                "the model has no BatchNorm, so 'batch_norm_statistics' would change nothing: "
                'choose another method for it'
            )

    def adapt(self, inputs: Tensor, metas: list[dict]) -> Tensor:
        """See base class: the statistics are taken in the forward itself."""
        return self.predict(inputs, metas)
