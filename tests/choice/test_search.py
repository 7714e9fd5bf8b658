"""The search against trying everything."""

import itertools

import pytest

from ecotta_seg.choice.candidates import Candidate, Choices
from ecotta_seg.choice.search import search

pytest.importorskip('optuna', reason='needs optuna')
RATES = (1e-5, 3e-5, 1e-4, 3e-4, 1e-3, 3e-3, 1e-2)
METHODS = [
    Choices('statistics'),
    Choices('tent', 'optimizer.lr', RATES, 2),
    Choices('sar', 'optimizer.lr', RATES, 3),
    Choices('broken', 'optimizer.lr', RATES, 1),
]
EVERYTHING = [
    Candidate(c.name, c.key, value) for c, value in ((c, v) for c in METHODS for v in c.values)
]


def score_of(candidate):
    if candidate.name == 'broken':
        return None
    if candidate.key is None:
        return 1.0
    best = 5 if candidate.name == 'tent' else 0
    return (4.0 if candidate.name == 'tent' else 2.0) - abs(RATES.index(candidate.value) - best)


class Runs:
    def __init__(self):
        self.batches = []

    def __call__(self, candidates):
        self.batches.append(list(candidates))
        return {candidate: score_of(candidate) for candidate in candidates}


@pytest.mark.parametrize('at_once', [1, 3])
def test_it_finds_what_trying_everything_finds(at_once):
    runs = Runs()
    scores = search(METHODS, runs, trials=16, at_once=at_once)
    tried = list(itertools.chain(*runs.batches))
    assert len(tried) == len(set(tried)) == len(scores) == 16 < len(EVERYTHING)
    assert max(map(len, runs.batches)) == at_once and tried == list(scores)
    best = max(EVERYTHING, key=lambda c: score_of(c) or 0)
    assert max(scores, key=lambda c: scores[c] or 0) == best and scores[best] == 4.0
    # The presets come first.
    assert tried[:4] == [Candidate(c.name, c.key, c.values[c.preset]) for c in METHODS]
    assert scores[tried[3]] is None


def test_the_same_scores_give_the_same_search():
    first, second = (search(METHODS, Runs(), trials=12) for _ in range(2))
    assert list(first) == list(second)


def test_everything_is_tried_once_at_most():
    assert set(search(METHODS[:2], Runs(), trials=500)) == set(EVERYTHING[:8])
