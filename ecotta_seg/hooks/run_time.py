"""How long a run will take, from its first frames, and how to make the run shorter."""

import math
import time
from typing import Callable, NamedTuple, Optional

from ..memory import MIB

# From one frame on if a frame is slow, else from the mean of a few.
_FRAMES, _PATIENCE = 5, 60.0
LONG = 60.0
"""A run that takes fewer seconds needs no estimate."""
SHORT = 30 * 60.0
"""A run that takes more seconds has advice: options with which it ends within this time."""
_FEW = 5


class StreamSize(NamedTuple):
    """What a stream consists of.

    Attributes:
        frames: Of one condition in one round.
        conditions: Their number.
        rounds: Their number.
    """

    frames: int
    conditions: int
    rounds: int


class RunTime:
    """Estimates the duration of a run.

    Frames of round 1 take longer than others, because the source and the references predict them as
    well. Frames under the memory meter and the very first frame are left out.

    Args:
        first_round: Frames of round 1 that are still to come.
        later: Frames of other rounds that are still to come.
        clock: Seconds, rising.
    """

    def __init__(
        self, first_round: int, later: int, clock: Callable[[], float] = time.perf_counter
    ) -> None:
        self._left = [first_round, later]
        self._clock = clock
        self._start = self._last = clock()
        self._frames, self._seconds, self._beside = 0, 0.0, 0.0
        self._seen = 0

    def end_of_frame(
        self, first_round: bool, counts: bool = True, beside: float = 0.0, frames: int = 1
    ) -> bool:
        """Notes that a frame and all that belongs to it are done.

        Args:
            first_round: Whether the frame is one of round 1.
            counts: Whether its time is like that of other frames.
            beside: Seconds of it that the source and the references took.
            frames: Number of frames in the batch.

        Returns:
            Whether there is an estimate now that was not there before.
        """
        now = self._clock()
        seconds, self._last = now - self._last, now
        self._left[0 if first_round else 1] -= frames
        self._seen += 1
        ready = self.ready
        if counts and self._seen > 1:
            self._frames += frames
            self._seconds += seconds
            self._beside += beside
        return self.ready and not ready

    @property
    def ready(self) -> bool:
        """Whether enough frames have counted."""
        waited = self._last - self._start >= _PATIENCE
        return self._frames >= _FRAMES or (self._frames > 0 and waited)

    @property
    def frame_seconds(self) -> tuple[float, float]:
        """Seconds of a frame of round 1, and of a later frame."""
        mean = self._seconds / self._frames
        return mean, mean - self._beside / self._frames

    @property
    def mean_seconds(self) -> float:
        """Seconds of a frame, on average over those that are still to come."""
        left = sum(self._left)
        return sum(n * s for n, s in zip(self._left, self.frame_seconds)) / max(1, left)

    @property
    def stream_seconds(self) -> float:
        """Seconds that the frames take, those that are done included."""
        left = sum(n * s for n, s in zip(self._left, self.frame_seconds))
        return self._last - self._start + left


def advice(size: StreamSize, frame_seconds: tuple[float, float], clear_seconds: float) -> str:
    """Options that make a long run of the same stream a short one.

    Args:
        size: Of the stream.
        frame_seconds: Of a frame of round 1, and of a later frame.
        clear_seconds: Of the clear day, before and after the stream.

    Returns:
        The options and the duration; '' if no choice makes the run short.
    """
    options = []
    if clear_seconds > SHORT / 2:
        options, clear_seconds = ['--cfg-options clear_dataloader=None'], 0.0
    first, later = frame_seconds
    for rounds in dict.fromkeys((size.rounds, 1)):
        per_frame = size.conditions * (first + (rounds - 1) * later)
        frames = int((SHORT - clear_seconds) / per_frame)
        frames -= frames % 10 if frames > 20 else 0
        if frames < (_FEW if rounds > 1 else 1):
            continue
        fewer = [f'--frames {frames}'] if frames < size.frames else []
        fewer += ['--rounds 1'] if rounds != size.rounds else []
        if fewer or options:
            seconds = min(frames, size.frames) * per_frame + clear_seconds
            return f'`{" ".join([*fewer, *options])}` takes about {duration(seconds)}'
    return ''


def describe(
    seconds: float, frames: int, frame_seconds: float, peak_bytes: Optional[int], clear: float
) -> str:
    """The sentence on a run's duration.

    Args:
        seconds: Of the whole run.
        frames: Of the stream.
        frame_seconds: Of one of them.
        peak_bytes: Peak memory of a step above the parameters; None if not measured.
        clear: Seconds of the clear day in ``seconds``.
    """
    parts = [f'{number(frame_seconds)} s a frame']
    if peak_bytes is not None:
        parts.append(f'peak memory of a step {number(peak_bytes / MIB)} MiB above the parameters')
    if clear >= 1:
        parts.append(f'the clear day takes {duration(clear)} of it')
    return f'about {duration(seconds)} for {frames} frames ({", ".join(parts)})'


def duration(seconds: float) -> str:
    """Seconds in the unit that a person would name: ``'40 s'``, ``'25 min'``, ``'3.5 h'``."""
    for unit, name, most in ((1, 's', 90), (60, 'min', 90 * 60), (3600, 'h', 72 * 3600)):
        if seconds < most:
            return f'{number(seconds / unit)} {name}'
    return f'{number(seconds / 86400)} days'


def number(value: float) -> str:
    """Two digits, as a person would write them; whole numbers from ten."""
    if value <= 0 or not math.isfinite(value):
        return f'{value:.0f}'
    return f'{value:.0f}' if value >= 9.95 else f'{value:.2g}'
