"""The strength of the meta networks by a frame's distance from the source domain."""

from math import isfinite
from typing import Optional

from ..registry import check_keys


class ShiftGate:
    """A strength from 0 to 1 for the meta networks: r^p / (1 + r^p) with r = D E / ``half``.

    D is the mean drift of the frozen model's norms (see ``DriftMeter``), E the mean entropy of the
    frozen model's prediction. Both are multiples of the same network's values on clear frames,
    because networks differ in both. Each value alone misses some weather: in one network rain
    causes hardly any drift, in another fog hardly changes the entropy.

    Both values come from the frozen model on the current frame, so learned parameters have no
    influence. Values of the adapted model would not work: its drift could stay high on the next
    clear day, and its entropy is always low, because the method minimises the entropy.

    Args:
        half: The product D E at strength 0.5, above 0.
        exponent: p, the steepness of the strength at ``half``, above 0.

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
        """From a config's dictionary.

        Raises:
            ValueError: An option is unknown or out of range.
        """
        check_keys('shift_gate', options, ['half', 'exponent'])
        return cls(**options)

    def strength(self, drift: Optional[float], entropy: float) -> float:
        """The strength for a frame.

        Args:
            drift: D as a multiple of the usual drift, at least 0. None for a model without norms
                to measure drift; the strength then depends on the entropy alone.
            entropy: E as a multiple of the usual entropy, at least 0.

        Returns:
            0 to 1; 0 for a broken frame, if one of the two values is not a number.
        """
        ratio = (entropy if drift is None else drift * entropy) / self.half
        if drift is not None and not drift >= 0 or not isfinite(entropy) or not ratio > 0:
            return 0.0
        if ratio > 1:
            return 1 / (1 + (1 / ratio) ** self.exponent)
        return ratio**self.exponent / (1 + ratio**self.exponent)
