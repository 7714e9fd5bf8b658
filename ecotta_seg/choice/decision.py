"""Which of the finalists to take, by frames that the search has not seen."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Optional

from ..evaluation.frame_areas import load_frame_areas
from ..evaluation.paired_bootstrap import paired_bootstrap
from ..evaluation.results import load_results
from .candidates import Candidate

LEVEL = 0.95


@dataclass(frozen=True)
class Finalist:
    """What a candidate came to on the stream that confirms.

    Attributes:
        candidate: Which.
        gain: Mean mIoU over conditions and rounds minus the source's on the same frames, in
            percentage points.
        low, high: The ends of its interval.
        conditions: The gain of each condition.
        clear_loss: mIoU of the source on the clear day minus that of the adapted model after the
            stream, in percentage points; None if not measured.
        seconds, source_seconds: Of a frame.
        peak_bytes, inference_peak_bytes: Memory above the parameters.
    """

    candidate: Candidate
    gain: float
    low: float
    high: float
    conditions: Mapping[str, float]
    clear_loss: Optional[float]
    seconds: Optional[float] = None
    source_seconds: Optional[float] = None
    peak_bytes: Optional[int] = None
    inference_peak_bytes: Optional[int] = None


@dataclass(frozen=True)
class Decision:
    """The choice.

    Attributes:
        chosen: Which finalist to take; None if adapting does not pay.
        finalists: All, from the largest gain on.
        max_clear_loss: What the clear day may lose, in percentage points.
    """

    chosen: Optional[Finalist]
    finalists: tuple[Finalist, ...]
    max_clear_loss: float

    def why_not(self, finalist: Finalist) -> Optional[str]:
        """Why a finalist may not be taken; None if it may."""
        if finalist.low <= 0:
            return 'its interval includes zero'
        if finalist.clear_loss is not None and finalist.clear_loss > self.max_clear_loss:
            return f'the clear day loses more than {self.max_clear_loss:g}'
        return None


def read_finalist(candidate: Candidate, record: Mapping, of: int, draws: int) -> Finalist:
    """A finalist of its record in the benchmark.

    The intervals of all finalists hold together with 95 %: each is of 1 - 0.05 / ``of``
    (Bonferroni), because the best of several is taken.

    Args:
        candidate: Which.
        record: As from ``read_runs``, without an error.
        of: The number of finalists.
        draws: Of the bootstrap.

    Raises:
        ValueError: The run kept no areas of its frames.
    """
    areas = load_frame_areas(record['folder'], load_results(record['folder']))
    level = 1 - (1 - LEVEL) / of
    source = {name: areas.source[name] for name in areas.frames}
    method = {name: areas.method[name] for name in areas.frames}
    paired = paired_bootstrap(method, source, draws, level)
    mean = paired['mean']
    return Finalist(
        candidate,
        mean['difference'],
        mean['low'],
        mean['high'],
        {name: entry['difference'] for name, entry in paired['conditions'].items()},
        record['forgetting'],
        *(record[name] for name in ('seconds', 'source_seconds')),
        *(record[name] for name in ('peak_bytes', 'inference_peak_bytes')),
    )


def decide(finalists: Sequence[Finalist], max_clear_loss: float) -> Decision:
    """Takes the finalist with the largest gain among those that may be taken.

    A finalist may be taken if its interval is above zero and the clear day loses no more than
    ``max_clear_loss``.
    """
    ordered = tuple(sorted(finalists, key=lambda finalist: -finalist.gain))
    decision = Decision(None, ordered, max_clear_loss)
    fit = [finalist for finalist in ordered if decision.why_not(finalist) is None]
    return Decision(fit[0] if fit else None, ordered, max_clear_loss)
