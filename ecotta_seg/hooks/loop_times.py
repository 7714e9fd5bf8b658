"""Measures the loop overhead: the time of the test loop outside the steps of the method."""

import time
from typing import Callable, Optional


class LoopTimes:
    """Sums the time from frame to frame and the time of the steps alone.

    Args:
        clock: Returns a rising time in seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self._clock = clock
        self._last: Optional[float] = None
        self._frames, self._whole, self._steps = 0, 0.0, 0.0

    def end_of_frame(self, step_seconds: Optional[float], frames: int = 1) -> None:
        """Records that the loop has finished all work for a batch.

        Args:
            step_seconds: Seconds of the method's step alone; None to leave out this batch.
            frames: Number of frames in the step's batch.
        """
        now = self._clock()
        if step_seconds is not None and self._last is not None:
            self._frames += frames
            self._whole += now - self._last
            self._steps += step_seconds
        self._last = now

    @property
    def overhead_seconds(self) -> Optional[float]:
        """Mean seconds per frame outside the steps; None before the first counted frame."""
        return (self._whole - self._steps) / self._frames if self._frames else None

    @property
    def overhead_share(self) -> Optional[float]:
        """Time outside the steps, as a fraction of the steps' time; None without steps."""
        return (self._whole - self._steps) / self._steps if self._steps > 0 else None

    def state_dict(self) -> dict:
        """Returns the sums. They do not include the pause between a stop and the resumed run."""
        return {'frames': self._frames, 'whole': self._whole, 'steps': self._steps}

    def load_state_dict(self, state: dict) -> None:
        """Restores a result of ``state_dict``."""
        self._frames, self._whole, self._steps = state['frames'], state['whole'], state['steps']
        self._last = None
