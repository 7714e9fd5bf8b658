"""Compute budgets in words, without torch."""

import pytest

from ecotta_seg.startup.compute_budget import parse_compute_budget


@pytest.mark.parametrize(
    ('budget', 'expected'), [('1.5x', 1.5), (' 2 X ', 2.0), ('3', 3.0), (1.25, 1.25), (2, 2.0)]
)
def test_budgets(budget, expected):
    assert parse_compute_budget(budget) == expected


@pytest.mark.parametrize(
    'budget', ['', 'x', 'much', '-1x', '0x', 0, '1.5y', '1,5x', '2s', True, None, float('nan')]
)
def test_what_is_no_budget(budget):
    with pytest.raises(ValueError, match="expected a compute budget such as '1.5x'"):
        parse_compute_budget(budget)
