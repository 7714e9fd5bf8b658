"""Chooses a plan of the memory engine for a memory budget."""

from typing import Union

from torch import Tensor

from ...inference.windows import slides
from ...startup.memory_budget import parse_budget
from ..budget.plan import choose_plan, fastest_plan, smallest_plan
from ..budget.planned_step import PlannedStep, SizedPlanner
from .dry_run import EngineDryRun
from .memory_engine import can_update_in_place


class Planner(SizedPlanner):
    """Plans for the memory engine.

    Args:
        method: An ``EcoTTA``.
        budget: See ``parse_budget``; None for the fastest step.
    """

    def make_plan(self, inputs: Tensor, metas: list[dict]) -> PlannedStep:
        """See base class."""
        return self.plan_by(EngineDryRun(self._method, inputs, metas), self.budget)

    def plan_by(self, dry_run: EngineDryRun, budget: Union[str, int, float, None]) -> PlannedStep:
        """Makes a plan for any budget by a dry run, which can be used again.

        Args:
            dry_run: A dry run of the planner's method on the frame.
            budget: See ``parse_budget``.

        Raises:
            BudgetError: See ``plan_for``.
        """
        inference = dry_run.inference_peak()
        limit = parse_budget(budget, inference)
        parts = len(self._method.encoder.parts)
        if limit is None:
            plan = fastest_plan(parts)
        else:
            plan = choose_plan(dry_run.peak, dry_run.costs(), parts, limit, self._in_place())
        return PlannedStep(plan, dry_run.peak(plan), inference, limit)

    def smallest_by(self, dry_run: EngineDryRun) -> PlannedStep:
        """The step with the lowest peak for any budget. Arguments as in ``plan_by``."""
        parts = len(self._method.encoder.parts)
        plan = smallest_plan(dry_run.peak, dry_run.costs(), parts, self._in_place())
        return PlannedStep(plan, dry_run.peak(plan), dry_run.inference_peak(), None)

    def _in_place(self) -> bool:
        """Whether gradients can be applied immediately.

        Sliding windows exclude this: all windows' gradients belong to the frame's initial
        parameters.
        """
        method = self._method
        return not slides(method.segmentor) and can_update_in_place(method.optimizer)
