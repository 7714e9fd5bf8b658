"""Estimates a run's duration from its first frames and advises how to shorten the run."""

import math
import time
from typing import Callable, NamedTuple, Optional

from ..memory import MIB

# An estimate needs this many timed frames, or a single one after this many seconds.
_FRAMES, _PATIENCE = 5, 60.0
LONG = 60.0
"""A run that takes fewer seconds needs no estimate."""
SHORT = 30 * 60.0
"""A run that takes more seconds has advice: options with which it ends within this time."""
_FEW = 5


class StreamSize(NamedTuple):
    """The size of a stream.

    Attributes:
        frames: Number of frames of one condition in one round.
        conditions: Number of conditions.
        rounds: Number of rounds.
    """

    frames: int
    conditions: int
    rounds: int


class RunTime:
    """Estimates the duration of a run.

    Frames of round 1 take longer than others, because the source and the references predict them as
    well. The estimate leaves out the first frame and the frames that the memory meter measures.

    Args:
        first_round: Number of remaining frames of round 1.
        later: Number of remaining frames of other rounds.
        clock: Returns a rising time in seconds.
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
        """Records that all work for a batch is done.

        Args:
            first_round: Whether the batch belongs to round 1.
            counts: Whether the time of the batch is typical; if not, the estimate leaves it out.
            beside: Seconds of this time that the source and the references took.
            frames: Number of frames in the batch.

        Returns:
            Whether this batch made the first estimate possible.
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
        """Whether there are enough timed frames for an estimate."""
        waited = self._last - self._start >= _PATIENCE
        return self._frames >= _FRAMES or (self._frames > 0 and waited)

    @property
    def frame_seconds(self) -> tuple[float, float]:
        """Seconds per frame of round 1, and per frame of later rounds."""
        mean = self._seconds / self._frames
        return mean, mean - self._beside / self._frames

    @property
    def mean_seconds(self) -> float:
        """Expected mean seconds of a remaining frame."""
        left = sum(self._left)
        return sum(n * s for n, s in zip(self._left, self.frame_seconds)) / max(1, left)

    @property
    def stream_seconds(self) -> float:
        """Seconds since the start of this object, plus the expected seconds of the other frames."""
        left = sum(n * s for n, s in zip(self._left, self.frame_seconds))
        return self._last - self._start + left


def advice(size: StreamSize, frame_seconds: tuple[float, float], clear_seconds: float) -> str:
    """Returns the options with which a run of the same stream takes at most half an hour.

    Args:
        size: Size of the stream.
        frame_seconds: Seconds per frame of round 1, and per frame of later rounds.
        clear_seconds: Seconds of the clear day, before and after the stream.

    Returns:
        A sentence with the options and the expected duration; '' if no options are enough.
    """
    options = []
    if clear_seconds > SHORT / 2:
        options, clear_seconds = ['--cfg-options forgetting_dataloader=None'], 0.0
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
    """Returns a sentence about a run's duration.

    Args:
        seconds: Seconds of the whole run.
        frames: Number of frames in the stream.
        frame_seconds: Seconds per frame.
        peak_bytes: Peak memory of a step above the parameters; None if not measured.
        clear: Seconds of the clear day, included in ``seconds``.
    """
    parts = [f'{number(frame_seconds)} s a frame']
    if peak_bytes is not None:
        parts.append(f'peak memory of a step {number(peak_bytes / MIB)} MiB above the parameters')
    if clear >= 1:
        parts.append(f'the clear day takes {duration(clear)} of it')
    return f'about {duration(seconds)} for {frames} frames ({", ".join(parts)})'


def duration(seconds: float) -> str:
    """Formats seconds in a readable unit: ``'40 s'``, ``'25 min'``, ``'3.5 h'``."""
    for unit, name, most in ((1, 's', 90), (60, 'min', 90 * 60), (3600, 'h', 72 * 3600)):
        if seconds < most:
            return f'{number(seconds / unit)} {name}'
    return f'{number(seconds / 86400)} days'


def number(value: float) -> str:
    """Formats a number with two significant digits, or as a whole number from ten on."""
    if value <= 0 or not math.isfinite(value):
        return f'{value:.0f}'
    return f'{value:.0f}' if value >= 9.95 else f'{value:.2g}'
