"""Chooses one of the finalists by frames that were not used in the search."""

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
    """The results of a candidate on the confirmation stream.

    Attributes:
        candidate: The candidate.
        gain: Mean mIoU over conditions and rounds minus the source's on the same frames, in
            percentage points.
        low, high: The ends of the confidence interval of ``gain``, in percentage points.
        conditions: For each condition, the gain in percentage points.
        clear_loss: mIoU of the source on the clear day minus that of the adapted model after the
            stream, in percentage points; None if not measured.
        seconds, source_seconds: Time for a frame in seconds, with the method and with the source
            alone.
        peak_bytes, inference_peak_bytes: Peak memory above the parameters in bytes, of a step and
            of stock inference.
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
    """The choice among the finalists.

    Attributes:
        chosen: The chosen finalist; None if no finalist may be chosen.
        finalists: All finalists, the largest gain first.
        max_clear_loss: The mIoU that the clear day may lose, in percentage points.
    """

    chosen: Optional[Finalist]
    finalists: tuple[Finalist, ...]
    max_clear_loss: float

    def why_not(self, finalist: Finalist) -> Optional[str]:
        """The reason why a finalist may not be chosen; None if the finalist may be chosen."""
        if finalist.low <= 0:
            return 'its interval includes zero'
        if finalist.clear_loss is not None and finalist.clear_loss > self.max_clear_loss:
            return f'the clear day loses more than {self.max_clear_loss:g}'
        return None


def read_finalist(candidate: Candidate, record: Mapping, of: int, draws: int) -> Finalist:
    """Reads a finalist from its record in the benchmark.

    With 95 % confidence, the intervals of all finalists contain their true gains at the same time:
    each interval has the level 1 - 0.05 / ``of`` (Bonferroni). This is needed because the best of
    several finalists is chosen.

    Args:
        candidate: The candidate.
        record: A record of ``read_runs`` without an error.
        of: The number of finalists.
        draws: Number of draws of the bootstrap.

    Raises:
        ValueError: The run did not save the areas of its frames.
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
    """Chooses the finalist with the largest gain among those that may be chosen.

    A finalist may be chosen if its whole interval is above zero and the clear day loses no more
    than ``max_clear_loss``, in percentage points.
    """
    ordered = tuple(sorted(finalists, key=lambda finalist: -finalist.gain))
    decision = Decision(None, ordered, max_clear_loss)
    fit = [finalist for finalist in ordered if decision.why_not(finalist) is None]
    return Decision(fit[0] if fit else None, ordered, max_clear_loss)
