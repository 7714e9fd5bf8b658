"""How far a frame is from what the source knows, and what is let through by that."""

from math import isfinite
from typing import Optional

from .registry import check_keys


class ShiftGate:
    """A strength from 0 to 1 for the meta networks: r^p / (1 + r^p) with r = D E / ``half``.

    D is the mean drift of the frozen model's norms, E the mean entropy of the frozen model's
    prediction. Both count as multiples of what the same network shows on clear frames, because
    networks differ in both. Either alone misses some weather: rain hardly drifts in one network,
    and fog hardly changes the entropy in another.

    Both are the frozen model's own on the very frame, so that learned parameters have no influence:
    they would drift, too, and would hold the gate open on the next clear day; and a model that has
    minimised entropy is always sure.

    Args:
        half: D E at which a half is let through, above 0.
        exponent: p, how sharply the strength rises there, above 0.

    Raises:
        ValueError: A value is out of range.
    """

    def __init__(self, half: float = 1.5, exponent: float = 6.0) -> None:
        if not half > 0 or not exponent > 0:
            raise ValueError(
                f'expected half and exponent of the shift gate above 0, got {half} and {exponent}'
            )
        self.half, self.exponent = half, exponent

    @classmethod
    def from_options(cls, options: dict) -> 'ShiftGate':
        """From a config's dictionary.

        Raises:
            ValueError: An option is unknown or out of range.
        """
        check_keys('shift_gate', options, ['half', 'exponent'])
        return cls(**options)

    def strength(self, drift: Optional[float], entropy: float) -> float:
        """What is let through on a frame.

        Args:
            drift: D in multiples of the usual one, at least 0; None of a model that has no norms
                to measure it by: the entropy decides alone.
            entropy: E in multiples of the usual one, at least 0.

        Returns:
            0 to 1; 0 of a broken frame, if one of them is no number.
        """
        ratio = (entropy if drift is None else drift * entropy) / self.half
        if drift is not None and not drift >= 0 or not isfinite(entropy) or not ratio > 0:
            return 0.0
        if ratio > 1:
            return 1 / (1 + (1 / ratio) ** self.exponent)
        return ratio**self.exponent / (1 + ratio**self.exponent)
