"""Budgets and the choice of plans, on forecasts made by hand."""

import pytest

from ecotta_seg.memory.plan import (
    BudgetError,
    Forecast,
    PartPlan,
    choose_plan,
    fastest_plan,
    leanest_plan,
    parse_budget,
    smallest_plan,
)

DROPPABLE = ('keep_block', 'keep_output')
# Bytes that keeping takes and operations that dropping costs, for two parts.
BYTES = {(0, 'keep_block'): 40, (0, 'keep_output'): 20, (1, 'keep_block'): 10,
         (1, 'keep_output'): 30}  # fmt: skip
COSTS = {(0, 'keep_block'): 400, (0, 'keep_output'): 100, (1, 'keep_block'): 50,
         (1, 'keep_output'): 200}  # fmt: skip
BASE, GRADIENTS, UNITS = 100, 25, 3


def forecast(plan):
    """Additive, so that the best choice can be told by hand: 231 bytes at most."""
    peak, operations = BASE + (0 if plan.update_in_place else GRADIENTS), 1000
    for (part, name), size in BYTES.items():
        if getattr(plan.parts[part], name):
            peak += size
        else:
            operations += COSTS[part, name]
    for part in plan.parts:
        peak += UNITS if part.keep_units else 0
        operations += 0 if part.keep_units else 5000
    return Forecast(peak, operations)


def dropped(plan):
    return {key for key in BYTES if not getattr(plan.parts[key[0]], key[1])}


WHOLE = BASE + GRADIENTS + sum(BYTES.values()) + 2 * UNITS


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


def test_all_is_kept_where_it_fits():
    plan, found = choose_plan(forecast, 2, DROPPABLE, WHOLE, True)
    assert plan == fastest_plan(2) and found == (WHOLE, 1000)


def test_the_cheapest_is_dropped_first():
    plan, found = choose_plan(forecast, 2, DROPPABLE, WHOLE - 5, True)
    assert dropped(plan) == {(1, 'keep_block')} and found == (WHOLE - 10, 1050)


def test_what_was_not_needed_is_kept_again():
    # In the row of cheap drops 10, then 20, then 30: 60 of 45 bytes. The first one is not needed.
    plan, found = choose_plan(forecast, 2, DROPPABLE, WHOLE - 45, True)
    assert dropped(plan) == {(0, 'keep_output'), (1, 'keep_output')}
    assert found == (WHOLE - 50, 1300)
    # All four for 65 bytes: the 40 of the most expensive are needed, the 30 after it are not.
    plan, _ = choose_plan(forecast, 2, DROPPABLE, WHOLE - 65, True)
    assert dropped(plan) == set(BYTES) - {(1, 'keep_output')}


def test_in_place_only_where_nothing_else_fits():
    everything = WHOLE - sum(BYTES.values())
    plan, _ = choose_plan(forecast, 2, DROPPABLE, everything, True)
    assert not plan.update_in_place and dropped(plan) == set(BYTES)
    plan, _ = choose_plan(forecast, 2, DROPPABLE, everything - 2 * UNITS, True)
    assert plan == leanest_plan(2, False)
    plan, found = choose_plan(forecast, 2, DROPPABLE, everything - 2 * UNITS - 1, True)
    assert plan.update_in_place and found.peak_bytes <= everything - 2 * UNITS - 1
    with pytest.raises(BudgetError):
        choose_plan(forecast, 2, DROPPABLE, everything - 2 * UNITS - 1, False)


@pytest.mark.parametrize('in_place', [False, True])
def test_the_smallest_that_is_told_can_be_met(in_place):
    with pytest.raises(BudgetError, match='cannot be met: the smallest that can is') as error:
        choose_plan(forecast, 2, DROPPABLE, 7, in_place)
    smallest = BASE + (0 if in_place else GRADIENTS)
    assert (error.value.budget_bytes, error.value.smallest_bytes) == (7, smallest)
    assert f'7 bytes cannot be met: the smallest that can is {smallest} bytes' in str(error.value)
    plan, found = choose_plan(forecast, 2, DROPPABLE, smallest, in_place)
    assert found.peak_bytes == smallest and plan.update_in_place == in_place
    with pytest.raises(BudgetError):
        choose_plan(forecast, 2, DROPPABLE, smallest - 1, in_place)


def test_the_smallest_need_not_be_the_leanest():
    def bumpy(plan):
        # Running the units again takes more than their tape did.
        peak, operations = forecast(plan)
        return Forecast(peak + 50 * sum(not part.keep_units for part in plan.parts), operations)

    plan = smallest_plan(bumpy, 2, DROPPABLE, False)
    assert all(part == PartPlan(True, True, False, False) for part in plan.parts)
    with pytest.raises(BudgetError) as error:
        choose_plan(bumpy, 2, DROPPABLE, 1, False)
    assert error.value.smallest_bytes == bumpy(plan).peak_bytes


def test_a_plan_in_words():
    assert fastest_plan(1).describe() == 'kept of part 1: units+middle+output+block'
    words = leanest_plan(2, True).describe()
    assert words == 'kept of part 1: input alone, 2: input alone, gradients applied piece by piece'
