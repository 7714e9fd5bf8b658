"""The search over methods and rates, by Optuna."""

import logging
import random
from collections.abc import Mapping, Sequence
from typing import Callable, Optional

from .candidates import Candidate, Choices

# What a run that has failed is told as.
Score = Optional[float]
# Known candidates that the sampler may propose before one that was not tried is drawn.
_PATIENCE = 10


def search(
    methods: Sequence[Choices],
    score: Callable[[Sequence[Candidate]], Mapping[Candidate, Score]],
    trials: int,
    at_once: int = 1,
    seed: int = 0,
) -> dict[Candidate, Score]:
    """Tries each method as its preset is, then what Optuna's sampler (TPE) proposes.

    A proposal that was scored before counts as no trial; if the sampler has no others, one that was
    not tried is drawn. The same scores, as many at once, give the same search.

    Args:
        methods: What there is to try.
        score: Runs candidates, several at once if it can, and gives the score of each, the higher
            the better; None for one that failed.
        trials: How many candidates are run, at most.
        at_once: How many are proposed before their scores are known.
        seed: Of the sampler.

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
    # An index, so that the sampler knows which values are neighbours.
    index = trial.suggest_int(choices.name, 0, len(choices.values) - 1)
    return Candidate(choices.name, choices.key, choices.values[index])


def _tell(study, trial, score: Score) -> None:
    from optuna.trial import TrialState

    if score is None:
        study.tell(trial, state=TrialState.FAIL)
    else:
        study.tell(trial, score)
