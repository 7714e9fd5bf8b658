"""Searches over methods and learning rates with Optuna."""

import logging
import random
from collections.abc import Mapping, Sequence
from typing import Callable, Optional

from .candidates import Candidate, Choices

# The score of a candidate; None if its run failed.
Score = Optional[float]
# If the sampler has proposed more known candidates than this, a candidate that was not tried is
# drawn.
_PATIENCE = 10


def search(
    methods: Sequence[Choices],
    score: Callable[[Sequence[Candidate]], Mapping[Candidate, Score]],
    trials: int,
    at_once: int = 1,
    seed: int = 0,
) -> dict[Candidate, Score]:
    """Tries each method with its preset, then the candidates that Optuna's sampler (TPE) proposes.

    A proposal that already has a score does not count as a trial. If the sampler proposes only such
    candidates, an untried candidate is drawn at random. The search is reproducible: with the same
    seed, the same ``at_once`` and the same scores, it tries the same candidates.

    Args:
        methods: The methods, and the values to try for each.
        score: Runs some candidates, possibly in parallel, and returns the score of each (higher is
            better), or None for a candidate that failed.
        trials: Maximum number of candidates to run.
        at_once: Maximum number of candidates that are passed to ``score`` together.
        seed: Seed of the sampler and of the random draws.

    Returns:
        The score of each candidate that was run, in the order of the search.

    Raises:
        ImportError: Optuna is not installed.
    """
    import optuna

    optuna.logging.set_verbosity(logging.WARNING)
    sampler = optuna.samplers.TPESampler(seed=seed, constant_liar=at_once > 1)
    study = optuna.create_study(direction='maximize', sampler=sampler)
    for choices in methods:
        study.enqueue_trial({'method': choices.name, choices.name: choices.preset})
    by_name = {choices.name: choices for choices in methods}
    left = [(c.name, i) for c in methods for i in range(len(c.values)) if i != c.preset]
    random.Random(seed).shuffle(left)
    scores: dict[Candidate, Score] = {}
    while len(scores) < min(trials, sum(len(choices.values) for choices in methods)):
        asked: dict[Candidate, list] = {}
        known = 0
        while len(asked) < min(at_once, trials - len(scores)):
            if known > _PATIENCE:
                if not left:
                    break
                name, index = left.pop()
                study.enqueue_trial({'method': name, name: index})
            trial = study.ask()
            candidate = _candidate(trial, by_name)
            if candidate in scores:
                known += 1
                _tell(study, trial, scores[candidate])
            else:
                known += candidate in asked
                asked.setdefault(candidate, []).append(trial)
        if not asked:
            break
        scores.update(score(list(asked)))
        for candidate, trials_of in asked.items():
            for trial in trials_of:
                _tell(study, trial, scores[candidate])
    return scores


def _candidate(trial, by_name: Mapping[str, Choices]) -> Candidate:
    choices = by_name[trial.suggest_categorical('method', list(by_name))]
    # The sampler gets the index of the value, so that it knows which values are neighbours.
    index = trial.suggest_int(choices.name, 0, len(choices.values) - 1)
    return Candidate(choices.name, choices.key, choices.values[index])


def _tell(study, trial, score: Score) -> None:
    from optuna.trial import TrialState

    if score is None:
        study.tell(trial, state=TrialState.FAIL)
    else:
        study.tell(trial, score)
