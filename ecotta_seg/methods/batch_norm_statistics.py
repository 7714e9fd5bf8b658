"""Adapts only the statistics of the BatchNorms and learns no parameters."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Optional

from torch import Tensor, nn

from ..layers.calibrated_batch_norm import (
    calibrate_norms,
    calibrated_norms,
    following,
    stream_kept,
)
from ..layers.replace_norms import replace_batch_norms
from ..registry import ADAPTATION_METHODS
from .base import AdaptationMethod


@ADAPTATION_METHODS.register_module(name='batch_norm_statistics')
class BatchNormStatistics(AdaptationMethod):
    """Normalises by the frame's own statistics, or by a blend of them and the source's.

    'frame' is the prediction-time BatchNorm of Nado et al. (arXiv 2006.10963). 'blend' is the
    method of Schneider et al. (arXiv 2006.16971) with the blend weight as an option. 'drift' and
    'calibrated' are ours.

    Args:
        segmentor: The source model.
        mode: 'frame', 'blend', 'drift' or 'calibrated', see ``replace_batch_norms``.
        weight: See ``replace_batch_norms``.
        tolerance, momentum: For mode 'calibrated', see ``CalibratedBatchNorm2d``.

    Raises:
        ValueError: The model has no BatchNorm, so the method would do nothing; an option is
            unknown or out of range.
    """

    def __init__(
        self,
        segmentor: nn.Module,
        mode: str = 'frame',
        weight: Optional[float] = None,
        tolerance: Optional[float] = None,
        momentum: Optional[float] = None,
    ) -> None:
        super().__init__(segmentor.requires_grad_(False))
        options = dict(tolerance=tolerance, momentum=momentum)
        given = {name: value for name, value in options.items() if value is not None}
        if not replace_batch_norms(segmentor, mode, weight, **given):
            raise ValueError(
                "the model has no BatchNorm, so 'batch_norm_statistics' would change nothing: "
                'choose another method for it'
            )
        self._calibrated = calibrated_norms(segmentor)

    @property
    def uses_clear_frames(self) -> bool:
        """See base class."""
        return bool(self._calibrated)

    def calibrate(self, frames: Sequence[tuple[Tensor, list[dict]]]) -> None:
        """See base class. Measures the usual drift of the norms of mode 'calibrated'."""
        super().calibrate(frames)
        calibrate_norms(self._calibrated, frames, self.predict)

    def propose(self, inputs: Tensor, metas: list[dict]) -> Tensor:
        """See base class. Prepares no update: the prediction itself measures the statistics."""
        return self.predict_frame(inputs, metas)

    def predict_frame(self, inputs: Tensor, metas: list[dict]) -> Tensor:
        """See base class."""
        with following(self._calibrated):
            return super().predict_frame(inputs, metas)

    @contextmanager
    def adaptation_disabled(self) -> Iterator[None]:
        """See base class. On exit the norms have the statistics from before the context."""
        with super().adaptation_disabled(), stream_kept(self._calibrated):
            yield

    def reset(self) -> None:
        """See base class."""
        for norm in self._calibrated:
            norm.forget()
