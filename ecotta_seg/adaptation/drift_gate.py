"""How far the stream has drifted from the source's domain, and what is let through by that."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Optional

import torch
from torch import Tensor, nn

from .adaptive_batch_norm import AdaptiveBatchNorm2d
from .registry import check_keys


class DriftMeter:
    """The mean of ``AdaptiveBatchNorm2d.drift`` over all layers, for a frame.

    It parts weather from clear days by a wide margin, and noise from weather. On CamVid's val
    sequence, DeepLabV3+ R18 and SegFormer-B0: clear days 0.02 to 0.045, weather of severity 3 0.05
    to 0.12, of severity 5 0.07 to 0.2, frames of noise from 0.16 (R18) and 0.18 (B0) upwards.

    Args:
        model: Its norms of mode 'drift' are listened to.
    """

    def __init__(self, model: nn.Module) -> None:
        self.norms = [
            module
            for module in model.modules()
            if isinstance(module, AdaptiveBatchNorm2d) and module.mode == 'drift'
        ]
        self._last: Optional[float] = None

    @contextmanager
    def listening(self) -> Iterator[None]:
        """While a frame goes through the model. Nothing but a number is kept of it."""
        for norm in self.norms:
            norm.last_drift = {}
        try:
            yield
        finally:
            self._last = self._measured()
            for norm in self.norms:
                norm.last_drift = None

    def mean(self) -> Optional[float]:
        """Of the frame that goes through the model, or the last that did: at least 0; None where
        nothing has been measured yet."""
        measured = self._measured()
        return self._last if measured is None else measured

    @torch.no_grad()
    def _measured(self) -> Optional[float]:
        means = [
            torch.stack(list(norm.last_drift.values())).sum() / norm.num_features
            for norm in self.norms
            if norm.last_drift
        ]
        # The planner's trial has no data.
        return float(torch.stack(means).float().mean()) if means and not means[0].is_meta else None


class DriftGate:
    """A strength from 0 to 1 for the meta networks: D^p / (D^p + half^p) of the mean drift D.

    Where the source is at home it is left alone, whatever has been learned elsewhere. D is known
    when a frame has gone through the whole model, so it is the next frame that it is used for.

    Args:
        meter: Measures D.
        half: Where the strength is a half, above 0.
        exponent: p, how sharply it rises there, above 0.

    Raises:
        ValueError: A value is out of range.
    """

    def __init__(self, meter: DriftMeter, half: float = 0.06, exponent: float = 6.0) -> None:
        if not (half > 0 and exponent > 0):
            raise ValueError(
                f'expected half and exponent of the drift gate above 0, got {half} and {exponent}'
            )
        self.meter, self.half, self.exponent = meter, half, exponent

    @classmethod
    def from_options(cls, meter: DriftMeter, options: dict) -> 'DriftGate':
        """From a config's dictionary.

        Raises:
            ValueError: An option is unknown or out of range.
        """
        check_keys('drift_gate', options, ['half', 'exponent'])
        return cls(meter, **options)

    def at_first(self) -> Tensor:
        """Before the first frame: 0, the stream is taken for the source's own; 1 where there is
        no norm to measure by."""
        return torch.zeros(()) if self.meter.norms else torch.ones(())

    def strength(self) -> Tensor:
        """By the last frame: a scalar, 0 to 1; 0 of a broken one, whose drift is no number."""
        drift = self.meter.mean()
        if drift is None:
            return self.at_first()
        ratio = (torch.tensor(drift) / self.half) ** self.exponent
        # Of a drift without bound the ratio may be infinite.
        strength = torch.where(ratio > 1, 1 / (1 + 1 / ratio), ratio / (1 + ratio))
        return torch.nan_to_num(strength, nan=0.0)
