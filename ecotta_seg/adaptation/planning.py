"""Chooses a plan for a memory budget, for one frame size after the other."""

from dataclasses import dataclass
from typing import Optional, Union

from torch import Tensor, nn

from ..memory.plan import Plan, choose_plan, fastest_plan, parse_budget, smallest_plan
from .memory_engine import can_update_in_place
from .padding import frame_region
from .trial_step import TrialStep
from .windows import slides


@dataclass(frozen=True)
class PlannedStep:
    """The plan of a frame size and what it is expected to take.

    Attributes:
        plan: What to keep.
        predicted_bytes: Peak of the step above parameters and adapters, the optimizer's state
            counted in.
        inference_bytes: Predicted peak of stock inference on the same frame, in the test mode
            of the model: whole, or in sliding windows.
        budget_bytes: What was asked for; None for no limit.
    """

    plan: Plan
    predicted_bytes: int
    inference_bytes: int
    budget_bytes: Optional[int]

    def to_dict(self) -> dict:
        """For the report."""
        return {
            'plan': self.plan.describe(),
            'predicted_peak_bytes': self.predicted_bytes,
            'predicted_inference_peak_bytes': self.inference_bytes,
            'budget_bytes': self.budget_bytes,
        }


class Planner:
    """Plans the steps of a method for one frame size after the other.

    Args:
        method: A ``MetaNetworkAdaptation``.
        budget: See ``parse_budget``.

    Raises:
        ValueError: The budget is not one.
    """

    def __init__(self, method: nn.Module, budget: Union[str, int, float, None]) -> None:
        parse_budget(budget, 2**40)
        self.budget = budget
        self._method = method
        self._planned: dict[tuple, PlannedStep] = {}

    def plan_for(self, inputs: Tensor, metas: list[dict]) -> PlannedStep:
        """The plan of a frame; made once for each size.

        Args:
            inputs: (N, 3, H, W).
            metas: Metainfo of the N samples.

        Raises:
            BudgetError: The budget cannot be met; the message tells the smallest that can.
        """
        key = (tuple(inputs.shape), tuple(metas[0]['img_shape']), frame_region(inputs, metas[0]))
        if key not in self._planned:
            trial = TrialStep(self._method, inputs, metas)
            self._planned[key] = self.plan_by(trial, self.budget)
        return self._planned[key]

    def plan_by(self, trial: TrialStep, budget: Union[str, int, float, None]) -> PlannedStep:
        """A plan for any budget, by a trial that may be used again.

        Args:
            trial: Of the planner's method, on the frame.
            budget: See ``parse_budget``.

        Raises:
            BudgetError: See ``plan_for``.
        """
        inference = trial.inference_peak()
        limit = parse_budget(budget, inference)
        parts = len(self._method.encoder.parts)
        if limit is None:
            plan = fastest_plan(parts)
        else:
            plan = choose_plan(trial.peak, trial.costs(), parts, limit, self._in_place())
        return PlannedStep(plan, trial.peak(plan), inference, limit)

    def smallest_by(self, trial: TrialStep) -> PlannedStep:
        """The step with the lowest peak, whatever the budget. Arguments as of ``plan_by``."""
        parts = len(self._method.encoder.parts)
        plan = smallest_plan(trial.peak, trial.costs(), parts, self._in_place())
        return PlannedStep(plan, trial.peak(plan), trial.inference_peak(), None)

    def _in_place(self) -> bool:
        """Whether gradients can be applied as they come: those of sliding windows are all of the
        parameters that the frame began with."""
        method = self._method
        return not slides(method.segmentor) and can_update_in_place(method.optimizer)
