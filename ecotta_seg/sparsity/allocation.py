"""Searches how many weights of each layer to cut, by UniPTS's reducing and regrowing.

UniPTS (arXiv 2405.18810) first cuts all layers to an excessive sparsity. Then an evolutionary
search decides which layers get weights back, until the total sparsity is right. This file takes
this coding, the crossover and the mutation from UniPTS. It differs in three points. An allocation
is rated by the divergence from the dense network and not by labels. Parents stay in the population,
so the result is never rated worse than the same sparsity in each layer. The number of ratings is
small enough for a CPU.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Callable

import numpy as np

Cuts = dict[str, int]


def total_cut(sizes: Mapping[str, int], sparsity: float) -> int:
    """The total number of weights to cut, rounded to a whole number.

    Raises:
        ValueError: ``sparsity`` is not from 0 to below 1.
    """
    if not 0 <= sparsity < 1:
        raise ValueError(
            f'expected a sparsity from 0 to below 1, such as 0.5 for half of the weights, got '
            f'{sparsity}'
        )
    return round(sparsity * sum(sizes.values()))


def uniform_cuts(sizes: Mapping[str, int], sparsity: float) -> Cuts:
    """Cuts with the same sparsity in each layer; their sum is exactly ``total_cut``.

    Args:
        sizes: The number of weights in each layer.
        sparsity: Share of all weights, from 0 to below 1.
    """
    total = total_cut(sizes, sparsity)
    amounts = np.array(list(sizes.values()))
    return dict(zip(sizes, _whole(amounts * (total / max(amounts.sum(), 1)), amounts, total)))


def regrown_cuts(
    sizes: Mapping[str, int], sparsity: float, shares: Sequence[float], excess: float = 0.05
) -> Cuts:
    """Cuts each layer to ``sparsity + excess``, then gives weights back by shares.

    Args:
        sizes: The number of weights in each layer.
        sparsity: Share of all weights to cut in the end, from 0 to below 1.
        shares: For each layer, its share of the weights that are given back, at least 0. If a layer
            becomes dense, the others get the rest of its share.
        excess: Additional sparsity before weights are given back. It is limited to half of the
            distance from ``sparsity`` to 1.

    Returns:
        The cuts; their sum is exactly ``total_cut``.
    """
    total = total_cut(sizes, sparsity)
    amounts = np.array(list(sizes.values()), dtype=float)
    reduced = amounts * (sparsity + min(excess, (1 - sparsity) / 2))
    left, cut = reduced.sum() - total, reduced.copy()
    shares = np.maximum(np.asarray(shares, dtype=float), 1e-9)
    for _ in range(len(amounts)):
        # A layer that is already dense gets no more weights.
        open_ = cut > 0
        if left <= 0 or not open_.any():
            break
        given = np.minimum(np.where(open_, shares, 0) / shares[open_].sum() * left, cut)
        cut, left = cut - given, left - given.sum()
    return dict(zip(sizes, _whole(cut, amounts, total)))


def search_cuts(
    sizes: Mapping[str, int],
    sparsity: float,
    fitness: Callable[[Cuts], float],
    population: int = 8,
    generations: int = 5,
    excess: float = 0.05,
    seed: int = 0,
) -> Cuts:
    """Searches the allocation of the lowest fitness under a total sparsity.

    Args:
        sizes: The number of weights in each layer.
        sparsity: Share of all weights to cut, from 0 to below 1.
        fitness: Returns the rating of an allocation; lower is better.
        population: Number of allocations in each generation, at least 2 (with one generation, at
            least 1). The first allocation has the same sparsity in each layer.
        generations: Number of generations, at least 1.
        excess: See ``regrown_cuts``.
        seed: Seed of the search.

    Returns:
        The best allocation that was rated; the uniform one if none is better.

    Raises:
        ValueError: ``sparsity`` is out of range.
    """
    uniform = uniform_cuts(sizes, sparsity)
    if sparsity == 0 or len(sizes) < 2:
        return uniform
    random = np.random.default_rng(seed)
    weights = np.array(list(sizes.values()), dtype=float)
    even = weights / weights.sum()
    rated = [(_rating(fitness, uniform), even, uniform)]
    newcomers = [random.dirichlet(np.ones(len(weights))) for _ in range(population - 1)]
    for generation in range(generations):
        for shares in newcomers:
            cuts = regrown_cuts(sizes, sparsity, shares, excess)
            rated.append((_rating(fitness, cuts), shares, cuts))
        # The sort is stable: if ratings are equal, the earlier allocation stays first, so an equal
        # one does not replace the uniform allocation.
        rated = sorted(rated, key=lambda one: one[0])[: max(population // 2, 2)]
        if generation < generations - 1:
            parents = [shares for _, shares, _ in rated]
            newcomers = [
                _crossed(parents, random) if child % 2 else _mutated(parents, random)
                for child in range(population)
            ]
    return rated[0][2]


def _rating(fitness: Callable[[Cuts], float], cuts: Cuts) -> float:
    rating = fitness(cuts)
    return rating if math.isfinite(rating) else math.inf


def _crossed(parents: Sequence[np.ndarray], random: np.random.Generator) -> np.ndarray:
    one, other = random.choice(len(parents), 2, replace=False)
    child = np.where(random.random(len(parents[0])) < 0.5, parents[one], parents[other])
    return child / child.sum()


def _mutated(parents: Sequence[np.ndarray], random: np.random.Generator) -> np.ndarray:
    child = parents[random.integers(len(parents))].copy()
    # A tenth of the layers changes, as in the paper, and at least one layer for small networks.
    changed = random.random(len(child)) < 0.1
    changed[random.integers(len(child))] = True
    child[changed] *= np.abs(1 + random.standard_normal(changed.sum()))
    return child / max(child.sum(), 1e-12)


def _whole(cuts: np.ndarray, sizes: np.ndarray, total: int) -> list[int]:
    """Rounds cuts to whole numbers from 0 to the layer's size whose sum is exactly ``total``."""
    floors = np.clip(np.floor(cuts), 0, sizes).astype(int)
    order = np.argsort(floors - cuts, kind='stable')
    while (missing := total - floors.sum()) != 0:
        step = 1 if missing > 0 else -1
        able = [i for i in order if 0 <= floors[i] + step <= sizes[i]][: abs(missing)]
        floors[able] += step
    return floors.tolist()
