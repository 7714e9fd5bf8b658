"""Budgets and the choice of plans, on forecasts made by hand."""

import pytest

from ecotta_seg.memory.budget.plan import (
    BudgetError,
    choose_plan,
    fastest_plan,
    leanest_plan,
    smallest_plan,
)

# Bytes that keeping takes and operations that dropping costs, for two parts.
BYTES = {(0, 'keep_block'): 40, (0, 'keep_output'): 20, (1, 'keep_block'): 10,
         (1, 'keep_output'): 30}  # fmt: skip
COSTS = {(0, 'keep_block'): 400, (0, 'keep_output'): 100, (1, 'keep_block'): 50,
         (1, 'keep_output'): 200}  # fmt: skip
BASE, GRADIENTS = 100, 25
# A wider temporary takes more.
WIDER = {2**24: 8, 2**22: 4, 2**21: 0}


def peak(plan):
    """Additive, so that the best choice can be told by hand."""
    total = BASE + (0 if plan.update_in_place else GRADIENTS) + WIDER[plan.workspace]
    return total + sum(size for key, size in BYTES.items() if key not in dropped(plan))


def dropped(plan):
    return {key for key in BYTES if not getattr(plan.parts[key[0]], key[1])}


EVERYTHING = sum(BYTES.values())
WHOLE = BASE + GRADIENTS + EVERYTHING + WIDER[2**24]


def choose(budget, in_place=True):
    return choose_plan(peak, COSTS, 2, budget, in_place)


def test_all_is_kept_where_it_fits():
    assert choose(WHOLE) == fastest_plan(2)


def test_the_cheapest_is_dropped_first():
    plan = choose(WHOLE - 9)
    assert dropped(plan) == {(1, 'keep_block')}
    assert peak(plan) <= WHOLE - 9 and plan.workspace == 2**24


def test_what_was_not_needed_is_kept_again():
    # In the row of cheap drops 10, then 20, then 30: 60 of 50 bytes. The first one is not needed.
    plan = choose(WHOLE - 8 - 45)
    assert dropped(plan) == {(0, 'keep_output'), (1, 'keep_output')}
    # All four for 65 bytes: the 40 of the most expensive are needed, the 30 after it are not.
    assert dropped(choose(WHOLE - 8 - 65)) == set(BYTES) - {(1, 'keep_output')}


def test_temporaries_are_as_wide_as_fits():
    narrow = WHOLE - 8
    assert choose(narrow - 10).workspace == 2**21
    assert choose(narrow - 6).workspace == 2**22
    assert choose(narrow - 2).workspace == 2**24


def test_in_place_only_where_nothing_else_fits():
    lean = BASE + GRADIENTS
    plan = choose(lean)
    assert not plan.update_in_place and dropped(plan) == set(BYTES)
    plan = choose(lean - 1)
    assert plan.update_in_place and peak(plan) <= lean - 1
    # Where gradients are gone there is room to keep something: the most expensive that fits.
    assert dropped(plan) == set(BYTES) - {(0, 'keep_output')}
    with pytest.raises(BudgetError):
        choose(lean - 1, in_place=False)


@pytest.mark.parametrize('in_place', [False, True])
def test_the_smallest_that_is_told_can_be_met(in_place):
    with pytest.raises(ValueError, match='cannot be met: the smallest that can is') as error:
        choose(7, in_place)
    smallest = BASE + (0 if in_place else GRADIENTS)
    assert (error.value.budget_bytes, error.value.smallest_bytes) == (7, smallest)
    assert f'7 bytes cannot be met: the smallest that can is {smallest} bytes' in str(error.value)
    plan = choose(smallest, in_place)
    assert peak(plan) == smallest and plan.update_in_place == in_place
    assert plan == smallest_plan(peak, COSTS, 2, in_place)
    with pytest.raises(BudgetError):
        choose(smallest - 1, in_place)


def test_a_plan_in_words():
    assert fastest_plan(1).describe() == 'kept of part 1: units+middle+output+block'
    words = leanest_plan(2, True).describe()
    assert words == 'kept of part 1: input alone, 2: input alone, gradients applied piece by piece'
