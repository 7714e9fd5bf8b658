"""Divides the units of an encoder into K parts (EcoTTA, arXiv 2303.01904, Table 13)."""

from collections.abc import Sequence
from typing import Optional

# The paper splits shallow parts more finely: [3, 3, 5, 5] and [2, 2, 4, 4, 4] of 16 units.
_SHALLOW_WEIGHT, _DEEP_WEIGHT, _NUM_SHALLOW = 3, 5, 2


def default_split(num_units: int, num_parts: int) -> tuple[int, ...]:
    """Divides units into parts in the paper's proportions.

    The two shallow parts have weight 3 and the others weight 5. Each part gets its weight's share
    of the units, rounded by the largest-remainder method. The result equals the paper's numbers for
    its ResNet-50 and extends to any other depth.

    Args:
        num_units: Residual blocks or transformer layers of the encoder.
        num_parts: K, from 1 to ``num_units``.

    Returns:
        Units per part, each at least 1, with the sum ``num_units``.

    Raises:
        ValueError: K is not between 1 and ``num_units``.
    """
    if not 1 <= num_parts <= num_units:
        raise ValueError(
            f'expected num_parts from 1 to {num_units} (the encoder has {num_units} blocks), '
            f'got {num_parts}'
        )
    weights = [_SHALLOW_WEIGHT if k < _NUM_SHALLOW else _DEEP_WEIGHT for k in range(num_parts)]
    # Every part gets at least one unit, so that none is empty.
    quotas = [weight * num_units / sum(weights) for weight in weights]
    split = [max(1, int(quota)) for quota in quotas]
    while sum(split) > num_units:
        split[max(range(num_parts), key=lambda k: split[k])] -= 1
    while sum(split) < num_units:
        split[max(range(num_parts), key=lambda k: quotas[k] - split[k])] += 1
    return tuple(split)


def check_split(split: Optional[Sequence[int]], num_parts: int, num_units: int) -> tuple[int, ...]:
    """Checks a split from a config, or returns the default split.

    Args:
        split: Units per part, or None for ``default_split``.
        num_parts: K; a given split must have this length.
        num_units: Number of units of the encoder.

    Raises:
        ValueError: The split has another length than K, holds a number below 1, or does not add
            up to the number of units.
    """
    if split is None:
        return default_split(num_units, num_parts)
    split = tuple(split)
    if any(not isinstance(size, int) or size < 1 for size in split):
        raise ValueError(f'expected a split of whole numbers from 1, got {list(split)}')
    if len(split) != num_parts:
        raise ValueError(
            f'the split {list(split)} has {len(split)} parts but num_parts is {num_parts}: make '
            'them agree'
        )
    if sum(split) != num_units:
        raise ValueError(
            f'the split {list(split)} adds up to {sum(split)}, but the encoder has {num_units} '
            f'blocks; the default for {num_parts} parts is '
            f'{list(default_split(num_units, num_parts))}'
        )
    return split
