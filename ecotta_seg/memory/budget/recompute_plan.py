"""Chooses the modules of a model to recompute, so that a step fits a memory budget."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from torch import Tensor

from ...startup.memory_budget import parse_budget
from .dry_run import DryRun, ModuleCost
from .plan import BudgetError
from .planned_step import PlannedStep, SizedPlanner

# The number of limits on the size of a recomputed module that are tried.
_LIMITS = 6


@dataclass(frozen=True)
class RecomputePlan:
    """Modules that keep only their inputs and run again in the backward.

    Attributes:
        modules: Their names in the segmentor.
        update_in_place: Whether gradients are applied immediately; always False.
    """

    modules: tuple[str, ...] = ()
    update_in_place: bool = False

    def describe(self) -> str:
        """One line for the report."""
        if not self.modules:
            return 'no module is recomputed'
        return f'recomputed: {", ".join(self.modules)}'


class RecomputePlanner(SizedPlanner):
    """Plans the modules to recompute under ordinary autograd.

    Args:
        method: A method that learns by gradients.
        budget: See ``parse_budget``.
    """

    def make_plan(self, inputs: Tensor, metas: list[dict]) -> PlannedStep:
        """See base class."""
        run = DryRun(self._method, inputs, metas)
        inference = run.inference_peak()
        limit = parse_budget(self.budget, inference)
        modules = choose_modules(run.peak, run.costs, limit)
        plan = RecomputePlan(tuple(modules))
        return PlannedStep(plan, run.peak(modules), inference, limit)


def choose_modules(
    peak: Callable[[Iterable[str]], int],
    costs: Callable[[], list[ModuleCost]],
    budget_bytes: int,
) -> list[str]:
    """Chooses modules to recompute so that the peak fits, with few operations.

    If a large module is recomputed as a whole, only one input is kept, but all its inner tensors
    are in memory during its backward. So the function tries sets of small and of large modules. In
    the set with the lowest peak, the modules that free the most bytes per operation come first.

    Args:
        peak: Peak bytes of a step that recomputes these modules.
        costs: The candidates for recomputing.
        budget_bytes: Upper limit of the peak.

    Raises:
        BudgetError: No set fits. The message states the smallest peak.
    """
    if peak([]) <= budget_bytes:
        return []
    tree = costs()
    largest = max((cost.kept for cost in tree), default=0)
    sets = [cut(tree, largest >> shift) for shift in range(_LIMITS)]
    sets = [modules for modules in sets if modules]
    peaks = [peak([cost.name for cost in modules]) for modules in sets]
    if not peaks or min(peaks) > budget_bytes:
        raise BudgetError(budget_bytes, min([peak([]), *peaks]))
    best = sets[peaks.index(min(peaks))]
    ordered = [c.name for c in sorted(best, key=lambda c: c.operations / (c.kept - c.inputs))]
    low, high = 0, len(ordered)
    while low < high:
        middle = (low + high) // 2
        if peak(ordered[:middle]) <= budget_bytes:
            high = middle
        else:
            low = middle + 1
    return ordered[:low]


def cut(tree: Iterable[ModuleCost], limit: int) -> list[ModuleCost]:
    """The outermost modules that keep at most ``limit`` bytes, and more than their inputs."""
    chosen = []
    for cost in tree:
        if cost.kept <= limit and cost.kept > cost.inputs and not cost.overwritten:
            chosen.append(cost)
        elif cost.kept > limit or cost.overwritten:
            chosen += cut(cost.inside, limit)
    return chosen
