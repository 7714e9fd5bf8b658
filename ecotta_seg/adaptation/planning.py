"""Chooses a plan for a memory budget by running the step on tensors without data.

A step on torch's ``meta`` device makes every tensor that the real one makes and computes none of
them. What the storage meter sees there is the peak that the real step will have.
"""

from copy import deepcopy
from dataclasses import dataclass
from typing import Optional, Union

import torch
from mmseg.models.backbones import MixVisionTransformer
from torch import Tensor, nn

from ..memory import StorageMeter
from ..memory.operation_counter import OperationCounter
from ..memory.plan import (
    Drop,
    Plan,
    choose_plan,
    fastest_plan,
    parse_budget,
    smallest_plan,
)
from .adaptive_batch_norm import AdaptiveBatchNorm2d
from .drift_meter import DriftMeter, drift_norms
from .memory_engine import GradientSink, MemoryEngine, UpdatingSink, can_update_in_place


@dataclass(frozen=True)
class PlannedStep:
    """The plan of a frame size and what it is expected to take.

    Attributes:
        plan: What to keep.
        predicted_bytes: Peak of the step above parameters and adapters, the optimizer's state
            counted in.
        inference_bytes: Predicted peak of stock inference on the same frame.
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


def without_data(module: nn.Module) -> nn.Module:
    """A copy of a module on the meta device; no weight is copied on the way."""
    memo = {}
    for parameter in module.parameters():
        memo[id(parameter)] = nn.Parameter(
            torch.empty_like(parameter, device='meta'), parameter.requires_grad
        )
    for buffer in module.buffers():
        memo[id(buffer)] = torch.empty_like(buffer, device='meta')
    return deepcopy(module, memo)


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

    def plan_for(self, inputs: Tensor, metas: list[dict], whole: bool) -> PlannedStep:
        """The plan of a frame; made once for each size.

        Args:
            inputs: (N, 3, H, W), a window.
            metas: Metainfo of the N samples.
            whole: Whether the window is the whole frame; only then can gradients be applied as
                they come.

        Raises:
            BudgetError: The budget cannot be met; the message tells the smallest that can.
        """
        key = (tuple(inputs.shape), tuple(metas[0]['img_shape']), whole)
        if key not in self._planned:
            trial = TrialStep(self._method, inputs, metas)
            self._planned[key] = self.plan_by(trial, self.budget, whole)
        return self._planned[key]

    def plan_by(
        self, trial: 'TrialStep', budget: Union[str, int, float, None], whole: bool
    ) -> PlannedStep:
        """A plan for any budget, by a trial that may be used again.

        Args:
            trial: Of the planner's method, on a window.
            budget: See ``parse_budget``.
            whole: See ``plan_for``.

        Raises:
            BudgetError: See ``plan_for``.
        """
        inference = trial.inference_peak()
        limit = parse_budget(budget, inference)
        parts = len(self._method.encoder.parts)
        if limit is None:
            plan = fastest_plan(parts)
        else:
            in_place = whole and can_update_in_place(self._method.optimizer)
            plan = choose_plan(trial.peak, trial.costs(), parts, limit, in_place)
        return PlannedStep(plan, trial.peak(plan), inference, limit)

    def smallest_by(self, trial: 'TrialStep', whole: bool) -> PlannedStep:
        """The step with the lowest peak, whatever the budget. Arguments as of ``plan_by``."""
        in_place = whole and can_update_in_place(self._method.optimizer)
        parts = len(self._method.encoder.parts)
        plan = smallest_plan(trial.peak, trial.costs(), parts, in_place)
        return PlannedStep(plan, trial.peak(plan), trial.inference_peak(), None)


class TrialStep:
    """Steps without data on one frame size.

    Args:
        method: A ``MetaNetworkAdaptation``; it is left as it is.
        inputs: (N, 3, H, W); only its shape counts.
        metas: Metainfo of the N samples.
    """

    def __init__(self, method: nn.Module, inputs: Tensor, metas: list[dict]) -> None:
        self._method, self._metas = method, metas
        self._segmentor = without_data(method.segmentor)
        self._inputs = torch.empty_like(inputs, device='meta')
        self._engine = MemoryEngine(self._segmentor)
        self._drift_meter = DriftMeter(drift_norms(self._segmentor))
        names = dict(self._segmentor.named_parameters())
        self._parameters = [names[name] for name in method.adaptable_parameters()]
        self._transformer = isinstance(method.encoder.backbone, MixVisionTransformer)
        self._peaks: dict[Plan, int] = {}
        self._inference: Optional[int] = None
        self._standing = self._optimizer_bytes()

    def _optimizer_bytes(self) -> int:
        """What the optimizer's state will take, by a step of it on nothing."""
        optimizer = self._method.build_optimizer(
            [torch.nn.Parameter(torch.empty_like(p)) for p in self._parameters]
        )
        with StorageMeter(device='meta') as meter:
            for group in optimizer.param_groups:
                for parameter in group['params']:
                    parameter.grad = torch.empty_like(parameter)
            before = meter.current_bytes
            optimizer.step()
            return meter.current_bytes - before

    def peak(self, plan: Plan) -> int:
        """Bytes of a step by this plan, the optimizer's state counted in."""
        if plan not in self._peaks:
            self._peaks[plan] = self._run(plan)
        return self._peaks[plan]

    def costs(self) -> dict[Drop, int]:
        """What a plan may drop, and the operations that it takes to compute it anew."""
        found: dict[Drop, int] = {}
        operator = self._engine.operator
        with torch.no_grad():
            x = self._segmentor.backbone.units.stem(self._inputs)
            for part in range(len(operator.meta)):
                with OperationCounter() as units:
                    output = operator.run_units(part, x)
                with OperationCounter() as block:
                    operator.meta[part].module.convolve(x)
                found[part, 'keep_output'] = found[part, 'keep_units'] = units.operations
                if operator.meta[part].by_channels and output.is_contiguous():
                    found[part, 'keep_block'] = block.operations
                if self._transformer:
                    # About the share that attention and its projections have in a layer.
                    found[part, 'keep_middle'] = units.operations // 3
                x = operator.leave_part(part, output)
        return found

    def _run(self, plan: Plan) -> int:
        method = self._method
        if plan.update_in_place:
            optimizer = method.build_optimizer(self._parameters)
            deliver = UpdatingSink(optimizer)
            for parameter in self._parameters:
                if optimizer.param_groups[0]['momentum']:
                    optimizer.state[parameter]['momentum_buffer'] = torch.empty_like(parameter)
        else:
            deliver = GradientSink()
        try:
            with StorageMeter(device='meta') as meter, self._drift_meter.listening():
                self._engine.run(
                    self._inputs, self._metas, 1.0, plan, method.pixel_weights,
                    method.regularisation_weight, deliver,
                )  # fmt: skip
        finally:
            for parameter in self._parameters:
                parameter.grad = None
        return meter.peak_bytes + self._standing

    def inference_peak(self) -> int:
        """Peak of stock inference, without meta networks and with the source's own statistics."""
        if self._inference is not None:
            return self._inference
        segmentor = without_data(self._segmentor)
        segmentor.backbone = segmentor.backbone.backbone
        for module in segmentor.modules():
            if isinstance(module, AdaptiveBatchNorm2d):
                module.mode = 'source'
        with torch.no_grad(), StorageMeter(device='meta') as meter:
            segmentor.encode_decode(self._inputs, self._metas)
        self._inference = meter.peak_bytes
        return self._inference
