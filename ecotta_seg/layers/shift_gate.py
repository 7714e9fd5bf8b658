"""Computes the strength of the meta networks from a frame's distance to clear frames."""

from math import isfinite
from typing import Optional

from ..registry import check_keys


class ShiftGate:
    """A strength from 0 to 1 for the meta networks: r^p / (1 + r^p) with r = D E / ``half``.

    D is the mean drift of the frozen model's norms (see ``DriftMeter``), E the mean entropy of the
    frozen model's prediction. Both are given as multiples of the same network's values on clear
    frames, because networks differ in drift and entropy. Each value alone misses some weather: in
    one network rain causes hardly any drift, in another fog hardly changes the entropy.

    Both values come from the frozen model on the current frame, so learned parameters have no
    influence. Values of the adapted model would not work: its drift could stay high on the next
    clear day, and its entropy is always low, because the method minimises the entropy.

    Args:
        half: The product D E at strength 0.5, above 0.
        exponent: p, above 0. A larger p makes the strength steeper near ``half``.

    Raises:
        ValueError: A value is out of range.
    """

    def __init__(self, half: float = 2.0, exponent: float = 6.0) -> None:
        if not half > 0 or not exponent > 0:
            raise ValueError(
                f'expected half and exponent of the shift gate above 0, got {half} and {exponent}'
            )
        self.half, self.exponent = half, exponent

    @classmethod
    def from_options(cls, options: dict) -> 'ShiftGate':
        """Builds a gate from a config's dictionary.

        Raises:
            ValueError: An option is unknown or out of range.
        """
        check_keys('shift_gate', options, ['half', 'exponent'])
        return cls(**options)

    def strength(self, drift: Optional[float], entropy: float) -> float:
        """The strength for a frame.

        Args:
            drift: D as a multiple of the usual drift, at least 0. If the model has no norms that
                measure drift, None; the strength then depends on the entropy alone.
            entropy: E as a multiple of the usual entropy, at least 0.

        Returns:
            The strength, 0 to 1. If one of the two values is NaN, the frame is broken and the
            strength is 0.
        """
        ratio = (entropy if drift is None else drift * entropy) / self.half
        if drift is not None and not drift >= 0 or not isfinite(entropy) or not ratio > 0:
            return 0.0
        if ratio > 1:
            return 1 / (1 + (1 / ratio) ** self.exponent)
        return ratio**self.exponent / (1 + ratio**self.exponent)
