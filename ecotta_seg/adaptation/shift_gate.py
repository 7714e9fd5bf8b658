"""How far a frame is from what the source knows, and what is let through by that."""

from math import isfinite
from typing import Optional

from .registry import check_keys


class ShiftGate:
    """A strength from 0 to 1 for the meta networks: g(D / half_drift) g(E / half_entropy).

    g(r) = r^p / (1 + r^p). D is the mean drift of the frozen model's norms, E the mean entropy of
    its prediction. Both are the frozen model's own on the very frame, so that what has been learned
    has no say in them: what was learned in the fog drifts, too, and would hold the gate open on the
    next clear day; and a model that has minimised entropy is always sure.

    Where statistics have not drifted the source is at home. Where it is sure of the frame
    nevertheless, the statistics that are blended in have done the correcting, and there is more to
    lose than to learn: the embedded model in rain (E = 0.1) falls from 37 % to 27 % mIoU at a rate
    by which DeepLabV3+ R18 on CamVid's val sequence (E = 0.34) rises from 32 % to 46 %.

    D and E count as multiples of what the same network shows on clear frames: networks differ in
    both by a factor of two.

    Args:
        half_drift: D at which a half is let through, in multiples of the usual D, above 0; None
            has the entropy decide alone.
        drift_exponent: p of the drift, how sharply it rises there, above 0.
        half_entropy: E at which a half is let through, likewise, above 0.
        entropy_exponent: p of the entropy, above 0.

    Raises:
        ValueError: A value is out of range.
    """

    def __init__(
        self,
        half_drift: Optional[float] = 1.75,
        drift_exponent: float = 8.0,
        half_entropy: float = 1.5,
        entropy_exponent: float = 6.0,
    ) -> None:
        values = (half_drift, drift_exponent, half_entropy, entropy_exponent)
        if not all(value > 0 for value in values if value is not None):
            raise ValueError(
                'expected half_drift, drift_exponent, half_entropy and entropy_exponent of the '
                f'shift gate above 0, got {values}'
            )
        self.half_drift, self.drift_exponent = half_drift, drift_exponent
        self.half_entropy, self.entropy_exponent = half_entropy, entropy_exponent

    @classmethod
    def from_options(cls, options: dict) -> 'ShiftGate':
        """From a config's dictionary.

        Raises:
            ValueError: An option is unknown or out of range.
        """
        names = ['half_drift', 'drift_exponent', 'half_entropy', 'entropy_exponent']
        check_keys('shift_gate', options, names)
        return cls(**options)

    def strength(self, drift: Optional[float], entropy: float) -> float:
        """What is let through on a frame.

        Args:
            drift: D in multiples of the usual one, at least 0; None of a model that has no norms
                to measure it by: the entropy decides alone.
            entropy: E in multiples of the usual one, at least 0.

        Returns:
            0 to 1; 0 of a broken frame, where one of them is no number.
        """
        by_entropy = _rise(entropy / self.half_entropy, self.entropy_exponent)
        if drift is None or self.half_drift is None:
            return by_entropy
        return by_entropy * _rise(drift / self.half_drift, self.drift_exponent)


def _rise(ratio: float, exponent: float) -> float:
    """ratio^p / (1 + ratio^p), also where the power would overflow; 0 of what is no number."""
    if ratio > 1:
        return 1 / (1 + (1 / ratio) ** exponent)
    return ratio**exponent / (1 + ratio**exponent) if isfinite(ratio) and ratio > 0 else 0.0
