"""How far adapters are let through: by how far the stream has drifted from the source domain."""

from collections.abc import Sequence

import torch
from torch import Tensor

from .adaptive_batch_norm import AdaptiveBatchNorm2d
from .registry import check_keys


class DriftGate:
    """A strength from 0 to 1 for the meta networks, from the drift that the norms have measured.

    The mean of ``AdaptiveBatchNorm2d.drift`` over all layers, D, parts weather from clear days by
    a wide margin: on CamVid's val sequence it is at 0.02 to 0.045 on clear frames, at 0.05 to 0.12
    in weather of severity 3 and at 0.07 to 0.17 in that of severity 5 (DeepLabV3+ R18 and
    SegFormer-B0). The strength is D^p / (D^p + half^p): where the source is at home, it is left
    alone, whatever has been learned elsewhere.

    D is known when a frame has gone through the whole model, so it is the next frame that it is
    used for. Before the first one the stream is taken for the source's own.

    Args:
        norms: The model's norms, of mode 'drift'.
        half: Where the strength is a half, above 0.
        exponent: p, how sharply it rises there, above 0.

    Raises:
        ValueError: A value is out of range, or a norm measures no drift.
    """

    def __init__(
        self, norms: Sequence[AdaptiveBatchNorm2d], half: float = 0.05, exponent: float = 4.0
    ) -> None:
        if not (half > 0 and exponent > 0):
            raise ValueError(
                f'expected half and exponent of the drift gate above 0, got {half} and {exponent}'
            )
        if any(norm.mode != 'drift' for norm in norms):
            raise ValueError(
                "a drift gate reads what norms of mode 'drift' measure: set "
                "frozen_norm=dict(mode='drift'), or drift_gate=None"
            )
        self.norms, self.half, self.exponent = list(norms), half, exponent
        for norm in self.norms:
            norm.last_drift = {}

    @classmethod
    def from_options(cls, norms: Sequence[AdaptiveBatchNorm2d], options: dict) -> 'DriftGate':
        """From a config's dictionary.

        Raises:
            ValueError: An option is unknown or out of range.
        """
        check_keys('drift_gate', options, ['half', 'exponent'])
        return cls(norms, **options)

    @torch.no_grad()
    def strength(self) -> Tensor:
        """By the last forward of the model: a scalar, 0 to 1.

        1 where the model has no norm to measure by; 0 where nothing has been measured yet.
        """
        if not self.norms:
            return torch.ones(())
        means = [
            torch.stack(list(norm.last_drift.values())).sum() / norm.num_features
            for norm in self.norms
            if norm.last_drift
        ]
        if not means:
            return torch.zeros(())
        # Of half precision or a broken frame it may be no number: nothing is let through then.
        ratio = (torch.stack(means).float().mean() / self.half) ** self.exponent
        return torch.nan_to_num(ratio / (1 + ratio), nan=0.0)
