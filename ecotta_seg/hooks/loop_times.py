"""What a loop adds to the time of the steps in it."""

import time
from typing import Callable, Optional


class LoopTimes:
    """Sums the time from frame to frame and that of the steps alone.

    Args:
        clock: Seconds, rising.
    """

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self._clock = clock
        self._last: Optional[float] = None
        self._frames, self._whole, self._steps = 0, 0.0, 0.0

    def end_of_frame(self, step_seconds: Optional[float], frames: int = 1) -> None:
        """Notes that a step and all that belongs to it are done.

        Args:
            step_seconds: Of the step alone; None where its frame does not count.
            frames: Of the step's batch.
        """
        now = self._clock()
        if step_seconds is not None and self._last is not None:
            self._frames += frames
            self._whole += now - self._last
            self._steps += step_seconds
        self._last = now

    @property
    def harness_seconds(self) -> Optional[float]:
        """Mean seconds a frame beside the steps; None before a frame has counted."""
        return (self._whole - self._steps) / self._frames if self._frames else None

    @property
    def harness_share(self) -> Optional[float]:
        """The same as a share of the steps' time."""
        return (self._whole - self._steps) / self._steps if self._steps > 0 else None

    def state_dict(self) -> dict:
        """The sums; the pause until a run goes on is in none of them."""
        return {'frames': self._frames, 'whole': self._whole, 'steps': self._steps}

    def load_state_dict(self, state: dict) -> None:
        """Goes on from what ``state_dict`` gave."""
        self._frames, self._whole, self._steps = state['frames'], state['whole'], state['steps']
        self._last = None
