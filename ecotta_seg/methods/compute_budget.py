"""Limits the mean operations per frame: chooses the frames that a method learns from."""

from math import ceil
from typing import Any, Union

from torch import Tensor, nn

from ..memory.budget.planned_step import size_of_frame
from ..memory.budget.without_data import without_data
from ..resume.saved_state import expect_keys
from ..startup.compute_budget import parse_compute_budget
from .frame_costs import FrameCosts, frame_costs
from .source import SourceModel

# The bucket holds the operations of at most this many steps.
_SAVED_STEPS = 2


class ComputeBudget:
    """Keeps the mean operations per frame at or below a multiple of those of stock inference.

    This is a token bucket. Each frame adds the budget minus the operations of the frame's
    prediction. The method learns from a frame if the bucket holds at least the operations that a
    step adds; these are then taken out. The bucket holds two steps at most, so that after a long
    drive without steps there is no burst of steps. If the budget is below the mean operations of
    steps on all frames, frames that are not worth learning from
    (``AdaptationMethod.worth_learning``) are predicted only. An estimate of mIoU on every n-th
    frame is paid for in n equal parts, one per frame, but the first estimate is paid for at once.
    So the mean stays at or below the budget from the first step on.

    The unit is the floating-point operation and not the second, so a run depends neither on the
    machine nor on its load, and a resumed run takes the same steps.

    Args:
        budget: See ``parse_compute_budget``.
        segmentor: The source model, before a method is built around it.

    Raises:
        ValueError: ``budget`` is not a valid budget.

    Attributes:
        budget: The limit, a multiple of stock inference.
        balance: The content of the bucket, in operations.
        frames: Number of frames.
        learned: Number of frames with a step, whether or not a guard accepted the update.
        inference_operations: Operations that stock inference would take on these frames.
        operations: Operations that the method has taken on these frames.
    """

    def __init__(self, budget: Union[str, int, float], segmentor: nn.Module) -> None:
        self.budget = parse_compute_budget(budget)
        self._stock = SourceModel(without_data(segmentor)).eval()
        self._costs: dict[tuple, FrameCosts] = {}
        self.forget()

    def forget(self) -> None:
        """Restores the state before the first frame."""
        self.frames = self.learned = self.inference_operations = 0
        self.balance = self.operations = 0.0

    def costs_of(self, method: Any, inputs: Tensor, metas: list[dict]) -> FrameCosts:
        """The operations of a frame; each frame size is counted only once.

        Args:
            method: The ``AdaptationMethod``.
            inputs: (N, 3, H, W), preprocessed and padded.
            metas: Metainfo of the N samples.

        Raises:
            ValueError: The budget is below the mean operations of a frame without a step, or the
                operations cannot be counted.
        """
        size = size_of_frame(inputs, metas)
        if size not in self._costs:
            costs = frame_costs(method, self._stock, inputs, metas)
            if self.budget < self._least(method, costs):
                raise ValueError(self._too_small(method, costs))
            self._costs[size] = costs
        return self._costs[size]

    def _least(self, method: Any, costs: FrameCosts) -> float:
        """The mean operations of a frame without a step, as a multiple of stock inference."""
        return (costs.prediction + self._mean_estimate(method, costs)) / costs.inference

    @staticmethod
    def _mean_estimate(method: Any, costs: FrameCosts) -> float:
        return 0.0 if method.estimate is None else costs.estimate / method.estimate.every

    def begin_frame(self, method: Any, inputs: Tensor, metas: list[dict]) -> None:
        """Adds a frame to the bucket. Arguments and errors as in ``costs_of``."""
        costs = self._now = self.costs_of(method, inputs, metas)
        mean = self._mean_estimate(method, costs)
        if not self.frames:
            # The first frame is estimated, and the bucket is empty: the next frames pay for the
            # estimate.
            self.balance = mean - costs.estimate
        operations = costs.prediction
        estimated = method.estimate is not None and method.estimate.is_due(method, metas)
        if method.estimate is not None and method.estimate.gives_source and not estimated:
            operations += costs.source
        self.frames += len(inputs)
        self.inference_operations += costs.inference
        self.operations += operations + estimated * costs.estimate
        saved = self.balance + self.budget * costs.inference - operations - mean
        self.balance = min(saved, _SAVED_STEPS * costs.step)

    def affords_step(self, method: Any, inputs: Tensor, metas: list[dict]) -> bool:
        """Whether the method may learn from the frame of the latest ``begin_frame``."""
        costs = self._now
        if self.balance < costs.step:
            return False
        each = self._least(method, costs) + costs.step / costs.inference
        return self.budget >= each or method.worth_learning(inputs, metas)

    def take_step(self, frames: int) -> None:
        """Takes the operations of a step out of the bucket.

        Args:
            frames: Number of frames in the batch.
        """
        self.learned += frames
        self.operations += self._now.step
        self.balance -= self._now.step

    def to_dict(self) -> dict[str, Any]:
        """The account of the stream so far, for the report.

        Returns:
            The budget; the share of frames with a step, 0 to 1; the mean operations of a frame as a
            multiple of stock inference. The last two are None before the first frame.
        """
        return {
            'budget': self.budget,
            'learned_share': self.learned / self.frames if self.frames else None,
            'operations_to_inference': (
                self.operations / self.inference_operations if self.frames else None
            ),
        }

    def state_dict(self) -> dict[str, Any]:
        """All state that later steps depend on, and the numbers for ``to_dict``."""
        names = ('balance', 'frames', 'learned', 'inference_operations', 'operations')
        return {name: getattr(self, name) for name in names}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restores a state from ``state_dict``.

        Raises:
            ValueError: The keys of ``state`` are not those of ``state_dict``.
        """
        expect_keys(state, self.state_dict(), 'the compute budget')
        for name, value in state.items():
            setattr(self, name, value)

    def _too_small(self, method: Any, costs: FrameCosts) -> str:
        least = self._least(method, costs)
        each = least + costs.step / costs.inference
        work = 'predicting' if not costs.estimate else 'predicting and estimating mIoU'
        return (
            f'the compute_budget is {self.budget:g}x, but on this frame size {work} alone takes '
            f'{type(method).__name__} {least:.2f} times the operations of stock inference: the '
            f"smallest budget is '{_rounded_up(least)}', with which nothing is learned, and "
            f"'{_rounded_up(each)}' learns from each frame"
        )


def _rounded_up(multiple: float) -> str:
    """The multiple as the text of a budget, rounded up to two decimals."""
    return f'{ceil(100 * multiple) / 100:.2f}x'
