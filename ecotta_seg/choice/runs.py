"""Runs candidates with the benchmark."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Callable, Optional

from ..benchmark.paired import paired_differences
from ..benchmark.runner import Outcome
from ..benchmark.runs import BenchmarkRun, ModelSpec, make_runs
from ..benchmark.summary import read_runs
from .candidates import Candidate
from .decision import Finalist, read_finalist

# The seeds of search and confirmation differ, so that their weather differs.
_SEARCH_SEED, _CONFIRM_SEED = 0, 1


class Runs:
    """Runs candidates on a stream and reads their results.

    Args:
        checkpoint: Weights of the source model.
        work_dir: Work directory; the runs write to its subfolder ``cells``.
        configs: The folder ``configs``.
        tool: Path of ``tools/test_tta.py``.
        execute: Executes runs, as ``execute_runs`` does.
        device: ``'cpu'``, ``'cuda'``, or None to use CUDA if available.
        max_clear_loss: The mIoU that the clear day may lose, in percentage points.
        draws: Number of draws of the bootstrap.

    Attributes:
        errors: For each candidate that failed, the error.
    """

    def __init__(
        self,
        checkpoint: str,
        work_dir: Path,
        configs: Path,
        tool: Path,
        execute: Callable[..., dict[BenchmarkRun, Outcome]],
        device: Optional[str],
        max_clear_loss: float,
        draws: int,
    ) -> None:
        self.checkpoint, self.work_dir = checkpoint, work_dir
        self.configs, self.tool, self.execute = configs, tool, execute
        self.device, self.max_clear_loss, self.draws = device, max_clear_loss, draws
        self.errors: dict[Candidate, str] = {}

    def scores(
        self, candidates: Sequence[Candidate], stream: Path
    ) -> dict[Candidate, Optional[float]]:
        """Runs candidates on the stream of the search and returns their scores.

        Returns:
            For each candidate its gain over the source in percentage points. If the clear day loses
            more than ``max_clear_loss``, the score is minus the excess, so that such a candidate is
            never above one that beats the source and may be chosen. None if the candidate failed.
        """
        found: dict[Candidate, Optional[float]] = {}
        for candidate, record in self._records(candidates, stream, _SEARCH_SEED).items():
            paired = None
            if record['error'] is None:
                paired = paired_differences([record['folder']], 1)
            if paired is None:
                self.errors.setdefault(candidate, record['error'] or 'it has no scored frames')
                found[candidate] = None
                continue
            excess = (record['forgetting'] or 0.0) - self.max_clear_loss
            found[candidate] = -excess if excess > 0 else paired['mean']['difference']
        return found

    def finalists(
        self, scores: Mapping[Candidate, Optional[float]], stream: Path, number: int
    ) -> list[Finalist]:
        """Runs the best candidates, at most one per method, on the confirmation stream.

        Args:
            scores: The scores of the search. Candidates with a score of 0 or less are left out.
            stream: Path of the config of the confirmation stream.
            number: Maximum number of finalists.
        """
        ordered = sorted((c for c, s in scores.items() if s is not None), key=lambda c: -scores[c])
        best = {c.name: c for c in reversed(ordered) if scores[c] > 0}
        chosen = [c for c in ordered if best.get(c.name) is c][:number]
        return [
            read_finalist(candidate, record, len(chosen), self.draws)
            for candidate, record in self._records(chosen, stream, _CONFIRM_SEED).items()
            if record['error'] is None
        ]

    def _records(
        self, candidates: Sequence[Candidate], stream: Path, seed: int
    ) -> dict[Candidate, dict]:
        if not candidates:
            return {}
        model = ModelSpec(stream.stem, os.fspath(stream), self.checkpoint)
        methods = [candidate.method for candidate in candidates]
        runs = make_runs([model], methods, seeds=[seed], device=self.device)
        outcomes = self.execute(runs, self.work_dir, self.configs, self.tool)
        errors = {run: outcome.error for run, outcome in outcomes.items() if outcome.error}
        records = read_runs(runs, errors, self.work_dir)
        for candidate, record in zip(candidates, records):
            if record['error'] is not None:
                self.errors[candidate] = record['error']
        return dict(zip(candidates, records))
