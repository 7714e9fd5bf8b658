"""The allocation of the sparsity: exact totals, and a search that is never worse than uniform."""

from itertools import product

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ecotta_seg.sparsity.allocation import regrown_cuts, search_cuts, uniform_cuts
from ecotta_seg.sparsity.fidelity import CutFitness, divergence, logits_of
from ecotta_seg.sparsity.masks import magnitude_mask
from tests.sparsity.conftest import smooth_frames, weights_to_cut

SIZES = dict(a=10, b=300, c=77, d=1)


@settings(max_examples=60, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 500), min_size=1, max_size=6),
    sparsity=st.floats(0, 0.999),
    seed=st.integers(0, 99),
)
def test_totals_are_exact_to_one_weight(sizes, sparsity, seed):
    sizes = {str(index): size for index, size in enumerate(sizes)}
    shares = torch.rand(len(sizes), generator=torch.Generator().manual_seed(seed)).tolist()
    for cuts in (uniform_cuts(sizes, sparsity), regrown_cuts(sizes, sparsity, shares)):
        assert sum(cuts.values()) == round(sparsity * sum(sizes.values()))
        assert all(0 <= cuts[name] <= size for name, size in sizes.items())


def test_uniform_is_uniform():
    cuts = uniform_cuts(SIZES, 0.5)
    assert all(abs(cuts[name] - size / 2) <= 1 for name, size in SIZES.items())


def test_the_regrown_weights_go_where_the_shares_say():
    # 0.55 of 200 and of 200 are cut, and 20 of them come back: all to one layer.
    assert regrown_cuts(dict(a=200, b=200), 0.5, [1, 0]) == dict(a=90, b=110)
    assert regrown_cuts(dict(a=200, b=200), 0.5, [1, 3]) == dict(a=105, b=95)
    # A small layer becomes dense and leaves the rest to the other.
    assert regrown_cuts(dict(a=10, b=390), 0.5, [1, 0]) == dict(a=0, b=200)


@pytest.mark.parametrize('sparsity', [-0.1, 1, 1.5, float('nan')])
def test_a_sparsity_out_of_range_is_refused(sparsity):
    with pytest.raises(ValueError, match='expected a sparsity from 0 to below 1'):
        uniform_cuts(SIZES, sparsity)


def test_the_search_approaches_the_best_of_all_allocations():
    sizes, price = dict(a=100, b=100, c=100), dict(a=5.0, b=1.0, c=3.0)

    def cost(cuts):
        return sum(price[name] * cut**2 for name, cut in cuts.items())

    found = search_cuts(sizes, 0.5, cost, population=12, generations=12)
    steps = [step / 10 for step in range(11)]
    every = [regrown_cuts(sizes, 0.5, shares) for shares in product(steps, repeat=3)]
    best, uniform = min(map(cost, every)), cost(uniform_cuts(sizes, 0.5))
    assert cost(found) <= best + 0.1 * (uniform - best)


def test_the_search_is_never_worse_than_uniform():
    uniform = uniform_cuts(SIZES, 0.7)
    assert search_cuts(SIZES, 0.7, lambda cuts: float(cuts != uniform)) == uniform
    # Of equal ones the uniform allocation is taken, and a rating that is no number is the worst.
    assert search_cuts(SIZES, 0.7, lambda cuts: 0.0) == uniform
    ratings = iter([1.0] + [float('nan')] * 99)
    assert search_cuts(SIZES, 0.7, lambda cuts: next(ratings)) == uniform


def test_a_layer_that_has_no_part_in_the_output_is_cut_more(two_branches):
    generator = torch.Generator().manual_seed(3)
    frames = [(torch.randn(1, 8, 6, 6, generator=generator), [{}]) for _ in range(4)]
    weights = weights_to_cut(two_branches, frames, keep=())
    sizes = {name: weight.numel() for name, weight in weights.items()}
    fitness = CutFitness(two_branches, frames[:2], weights)
    found, uniform = search_cuts(sizes, 0.5, fitness), uniform_cuts(sizes, 0.5)
    assert found['unheard.weight'] > found['heard.weight']
    held_out = CutFitness(two_branches, frames[2:], weights, noise=0)
    assert held_out(found) < held_out(uniform)


def test_a_rating_leaves_the_model_as_it_was(model):
    frames = smooth_frames(model, 2)
    weights = weights_to_cut(model, frames)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    fitness = CutFitness(model, frames, weights)
    cuts = uniform_cuts({name: weight.numel() for name, weight in weights.items()}, 0.8)
    assert fitness(cuts) == fitness(cuts) > fitness(dict.fromkeys(cuts, 0))
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


def test_the_rating_is_the_divergence_of_the_cut_network(two_branches):
    frames = [(torch.randn(1, 8, 6, 6), [{}])]
    weights = weights_to_cut(two_branches, frames, keep=())
    fitness = CutFitness(two_branches, frames, weights, noise=0)
    cuts = {'heard.weight': 20, 'unheard.weight': 3}
    rating, dense = fitness(cuts), logits_of(two_branches, frames)[0]
    for name, cut in cuts.items():
        weights[name].mul_(magnitude_mask(weights[name], cut))
    sparse = logits_of(two_branches, frames)[0]
    assert rating == pytest.approx(divergence(dense, sparse), abs=1e-9)
    p, q = dense.softmax(1), sparse.softmax(1)
    assert rating == pytest.approx(float((p * (p / q).log()).sum(1).mean()), rel=1e-4)
