"""Budgets as users write them."""

import pytest

from ecotta_seg.startup.memory_budget import parse_budget


@pytest.mark.parametrize(
    ('budget', 'expected'),
    [
        ('600MB', 600 * 10**6),
        ('580MiB', 580 * 2**20),
        (' 1.5 gb ', 15 * 10**8),
        ('12345', 12345),
        (12345, 12345),
        (2.5e6, 2500000),
        ('1.25x', 1250),
        ('1X', 1000),
        (None, None),
    ],
)
def test_budgets(budget, expected):
    assert parse_budget(budget, 1000) == expected


@pytest.mark.parametrize(
    'budget', ['', 'x', 'much', '-1MB', '0', '0x', 0, -5, '1.5y', '1e', '1,5MB', True, float('nan')]
)
def test_what_is_no_budget(budget):
    with pytest.raises(ValueError, match="expected a memory budget such as '600MB'"):
        parse_budget(budget, 1000)
