"""The usual entropy of a stream's predictions, for the guard."""

from collections import deque
from statistics import median
from typing import Optional

# The usual entropy of a stream is the median over this many frames; the limit is never below this
# multiple of the usual entropy.
_USUAL_FRAMES = 50
_RISE = 1.25


class EntropyLimit:
    """Tracks the usual entropy of a stream's predictions and finds entropies too high for learning.

    Each entropy is the mean over a frame's pixels, divided by ln C (0 to 1). A learned frame is a
    frame that the method has learned from. The limit is ``highest``, or 1.25 times the median
    entropy of the last 50 learned frames if this is higher.

    Args:
        highest: The limit for a model that is usually sure; 1 turns the limit off.
        window: Number of frames in the median that is compared with the limit.
    """

    def __init__(self, highest: float, window: int) -> None:
        self.highest = highest
        # Entropies of the last frames, and of the last learned frames.
        self._last: deque = deque(maxlen=window)
        self._usual: deque = deque(maxlen=_USUAL_FRAMES)
        # A copy of ``_usual`` from when the good parameters were saved; and for the initial
        # parameters, the entropy of the first learned frame.
        self._good: list[float] = []
        self._first: list[float] = []

    def see(self, entropy: float) -> float:
        """Adds a frame's entropy and returns the median of the last ``window`` frames."""
        self._last.append(entropy)
        return median(self._last)

    def judge(self, entropy: float) -> Optional[str]:
        """Returns the reason not to learn from a frame with this entropy, or None."""
        if self.highest == 1 or entropy <= self.limit():
            return None
        return f'the entropy of the prediction is at {entropy:.0%} of its maximum'

    def limit(self) -> float:
        """Returns the highest entropy to learn from; above 1 before the first learned frame."""
        usual = median(self._usual) if self._usual else 1.0
        return max(self.highest, _RISE * usual)

    def learned(self) -> None:
        """Records that the method has learned from the last frame."""
        self._usual.append(self._last[-1])
        if not self._first:
            self._first = self._good = [self._last[-1]]

    def keep(self) -> None:
        """Saves the usual entropies of the current parameters, which count as good."""
        self._good = list(self._usual)

    def back_to_good(self) -> None:
        """Restores the usual entropies of the good parameters after a rollback."""
        self._last.clear()
        self._usual = deque(self._good, maxlen=_USUAL_FRAMES)

    def back_to_start(self) -> None:
        """Restores the usual entropy of the initial parameters after a reset."""
        self._good = list(self._first)
        self.back_to_good()

    def state_dict(self) -> dict:
        """Returns the entropies that later decisions depend on."""
        return {
            'last': list(self._last),
            'usual': list(self._usual),
            'good': list(self._good),
            'first': list(self._first),
        }

    def load_state_dict(self, state: dict) -> None:
        """Restores a result of ``state_dict``."""
        self._last = deque(state['last'], maxlen=self._last.maxlen)
        self._usual = deque(state['usual'], maxlen=_USUAL_FRAMES)
        self._good, self._first = list(state['good']), list(state['first'])
