"""Measures the drift of a frame: the mean drift over some norms of a model."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Optional

import torch
from torch import nn

from .adaptive_batch_norm import AdaptiveBatchNorm2d


def drift_norms(model: nn.Module) -> list[AdaptiveBatchNorm2d]:
    """All norms of mode 'drift' in a model."""
    return [
        norm
        for norm in model.modules()
        if isinstance(norm, AdaptiveBatchNorm2d) and norm.mode == 'drift'
    ]


class DriftMeter:
    """Measures the drift of a frame: the mean of ``AdaptiveBatchNorm2d.drift`` over some norms.

    The drift of a ``CalibratedBatchNorm2d`` is divided by the layer's own usual drift. So all
    layers count alike, although layers differ in their drift on clear frames.

    Args:
        norms: Norms of mode 'drift' or 'calibrated'.
    """

    def __init__(self, norms: Iterable[AdaptiveBatchNorm2d]) -> None:
        self.norms = list(norms)
        self._last: Optional[float] = None

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Context manager: measures the frame that the model runs inside, for ``mean``."""
        for norm in self.norms:
            norm.last_drift = {}
        try:
            yield
        finally:
            self._last = self._measured()
            for norm in self.norms:
                norm.last_drift = None

    def mean(self) -> Optional[float]:
        """The mean drift of the current or latest frame, at least 0; None before a measurement."""
        measured = self._measured()
        return self._last if measured is None else measured

    @torch.no_grad()
    def _measured(self) -> Optional[float]:
        means = [
            torch.stack(list(norm.last_drift.values())).sum() / norm.num_features
            for norm in self.norms
            if norm.last_drift
        ]
        return float(torch.stack(means).float().mean()) if means else None
