"""A planned step, and planners that plan one frame size after the other."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Optional, Union

from torch import Tensor, nn

from ..memory.plan import parse_budget
from .padding import frame_region


@dataclass(frozen=True)
class PlannedStep:
    """The plan of a frame size and what it is expected to take.

    Attributes:
        plan: What to keep, or to recompute: has ``describe()`` and ``update_in_place``.
        predicted_bytes: Peak of the step above parameters and adapters, the optimizer's state
            counted in.
        inference_bytes: Predicted peak of stock inference on the same frame, in the test mode
            of the model: whole, or in sliding windows.
        budget_bytes: What was asked for; None for no limit.
    """

    plan: object
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


class SizedPlanner(ABC):
    """Plans the steps of a method; a subclass makes the plan of a frame size.

    Args:
        method: The method that takes the steps.
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
            BudgetError: The budget cannot be met; the message has the smallest that can.
        """
        key = (tuple(inputs.shape), tuple(metas[0]['img_shape']), frame_region(inputs, metas[0]))
        if key not in self._planned:
            self._planned[key] = self.make_plan(inputs, metas)
        return self._planned[key]

    @abstractmethod
    def make_plan(self, inputs: Tensor, metas: list[dict]) -> PlannedStep:
        """The plan of a frame size. Arguments and errors as of ``plan_for``."""
