"""How far the stream has drifted from the source's domain, and what is let through by that."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Optional

import torch
from torch import Tensor, nn

from .adaptive_batch_norm import AdaptiveBatchNorm2d
from .registry import check_keys


def drift_norms(*modules: nn.Module) -> list[AdaptiveBatchNorm2d]:
    """All norms of mode 'drift' in modules."""
    return [
        norm
        for module in modules
        for norm in module.modules()
        if isinstance(norm, AdaptiveBatchNorm2d) and norm.mode == 'drift'
    ]


class DriftMeter:
    """The mean of ``AdaptiveBatchNorm2d.drift`` over some layers, for a frame.

    Args:
        norms: Of mode 'drift'.
    """

    def __init__(self, norms: Iterable[AdaptiveBatchNorm2d]) -> None:
        self.norms = list(norms)
        self._last: Optional[float] = None

    @contextmanager
    def listening(self) -> Iterator[None]:
        """While a frame goes through the model. Nothing but a number is kept of it."""
        begun = [norm for norm in self.norms if norm.last_drift is None]
        for norm in begun:
            norm.last_drift = {}
        try:
            yield
        finally:
            self._last = self._measured()
            # Another meter that listens meanwhile may want the others' still.
            for norm in begun:
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

    Where the source is at home it is left alone, whatever has been learned elsewhere. D must be
    measured where no meta network has a say: what they have learned in the fog drifts, too, and on
    the next clear day it would hold the gate open. Over the norms of a ResNet's stem and first
    part D parts weather from clear days by a wide margin: on CamVid's val sequence, DeepLabV3+
    R18, clear days have 0.024 to 0.04, weather of severity 1 0.034 to 0.15, of severity 3 0.08 to
    0.24, of severity 4 0.095 to 0.28. Over the norms of SegFormer-B0's head, of frames of half
    size: 0.02 to 0.044, 0.02 to 0.056, 0.05 to 0.19 and 0.07 to 0.23.

    Args:
        meter: Measures D.
        half: Where the strength is a half, above 0.
        exponent: p, how sharply it rises there, above 0.

    Raises:
        ValueError: A value is out of range.
    """

    def __init__(self, meter: DriftMeter, half: float = 0.06, exponent: float = 8.0) -> None:
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
