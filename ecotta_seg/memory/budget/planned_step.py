"""A planned step, and the base class of planners, which make one plan per frame size."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Optional, Union

from torch import Tensor, nn

from ...inference.padding import frame_region
from ...startup.memory_budget import parse_budget


def size_of_frame(inputs: Tensor, metas: list[dict]) -> tuple:
    """The size and the padding of a frame, as a key: frames with equal keys have equal plans.

    Args:
        inputs: (N, 3, H, W).
        metas: Metainfo of the N samples.
    """
    return tuple(inputs.shape), tuple(metas[0]['img_shape']), frame_region(inputs, metas[0])


@dataclass(frozen=True)
class PlannedStep:
    """The plan for a frame size and its predicted memory.

    Attributes:
        plan: A ``Plan`` or ``RecomputePlan``, which selects the tensors to keep or recompute.
        predicted_bytes: Predicted peak of the step without parameters and adapters, but with the
            optimizer's state.
        inference_bytes: Predicted peak of stock inference on the same frame, in the model's test
            mode: whole, or in sliding windows.
        budget_bytes: The budget; None for no limit.
    """

    plan: object
    predicted_bytes: int
    inference_bytes: int
    budget_bytes: Optional[int]

    def to_dict(self) -> dict:
        """The step as a dictionary for the report."""
        return {
            'plan': self.plan.describe(),
            'predicted_peak_bytes': self.predicted_bytes,
            'predicted_inference_peak_bytes': self.inference_bytes,
            'budget_bytes': self.budget_bytes,
        }


class SizedPlanner(ABC):
    """Plans the steps of a method; a subclass makes the plan for a frame size.

    Args:
        method: The method that takes the steps.
        budget: See ``parse_budget``.

    Raises:
        ValueError: ``budget`` is not a valid budget.
    """

    def __init__(self, method: nn.Module, budget: Union[str, int, float, None]) -> None:
        parse_budget(budget, 2**40)
        self.budget = budget
        self._method = method
        self._planned: dict[tuple, PlannedStep] = {}

    def plan_for(self, inputs: Tensor, metas: list[dict]) -> PlannedStep:
        """The plan for a frame; each frame size is planned only once.

        Args:
            inputs: (N, 3, H, W).
            metas: Metainfo of the N samples.

        Raises:
            BudgetError: No plan meets the budget. The message states the smallest possible budget.
        """
        key = size_of_frame(inputs, metas)
        if key not in self._planned:
            self._planned[key] = self.make_plan(inputs, metas)
        return self._planned[key]

    @abstractmethod
    def make_plan(self, inputs: Tensor, metas: list[dict]) -> PlannedStep:
        """Makes the plan for a frame size. Arguments and errors as in ``plan_for``."""
