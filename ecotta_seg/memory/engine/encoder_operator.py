"""The forward and backward of an encoder with meta networks, without autograd.

The operator runs one part after the other: a group of frozen blocks and its meta network.
"""

from dataclasses import dataclass
from typing import Optional

import torch
from torch import Tensor

from ...meta_networks.encoder import AdaptedEncoder
from ..budget.plan import Plan
from ..frozen_graph import FeatureAligner, FrozenOperator, PendingGradient, Sequence, Tape
from .meta_operator import Deliver, MetaNetworkOperator


@dataclass
class _PartRecord:
    """The tensors of one part that are kept until its backward."""

    input: Tensor
    units: Optional[Tape]
    meta: Tape
    end: Tape


class EncoderOperator:
    """Runs an ``AdaptedEncoder`` without autograd.

    Args:
        encoder: The encoder; its meta networks may change between two steps.
        relative: Whether each R_k is divided by mean |x_k|.
        smoothing: See ``self_distilled_regularisation``.
    """

    def __init__(
        self, encoder: AdaptedEncoder, relative: bool = False, smoothing: float = 0.0
    ) -> None:
        self.encoder = encoder
        units = encoder.units
        self.units: list[FrozenOperator] = [units.operator(i) for i in range(len(units))]
        for part, aligner in zip(encoder.parts, encoder.aligners):
            last = part.stop - 1
            self.units[last] = Sequence([self.units[last], FeatureAligner(aligner)])
        self.stages = {
            shape.stage: units.stage_operator(shape.stage)
            for shape in units.shapes
            if shape.ends_stage
        }
        self.meta = [
            MetaNetworkOperator(module, relative, smoothing) for module in encoder.meta_networks
        ]
        self._records: list[_PartRecord] = []

    def fallbacks(self) -> list[str]:
        """Names of the frozen modules that run under autograd."""
        return [name for operator in self.units for name in operator.fallbacks()]

    def forward(
        self, image: Tensor, plan: Plan, reads: Optional[tuple[int, ...]]
    ) -> tuple[list[Optional[Tensor]], list[Tensor]]:
        """Encodes a frame and keeps the tensors that the plan names.

        Args:
            image: (N, 3, H, W), preprocessed.
            plan: Selects the tensors to keep.
            reads: Positions of the outputs to return; None for all.

        Returns:
            The outputs (None for each output not in ``reads``), and R_k of each part, scalars.
        """
        units = self.encoder.units
        wanted = self._wanted(reads)
        self._records, differences = [], []
        outputs: dict[int, Tensor] = {}
        x = units.stem(image)
        for index, keep in enumerate(plan.parts):
            record = _PartRecord(x, None, Tape(), Tape(workspace=plan.workspace))
            self._records.append(record)
            # No gradient passes through the first part's frozen units.
            if keep.keep_units and index:
                record.units = Tape(keep.keep_middle, plan.workspace)
            x = self._run_units(index, x, record.units, outputs, wanted)
            x, difference = self.meta[index].forward(
                x, record.input, record.meta, keep.keep_output, keep.keep_block
            )
            differences.append(difference)
            x = self._leave(self.encoder.parts[index].stop - 1, x, record.end, outputs, wanted)
        return [outputs.get(stage) for stage in units.out_stages], differences

    def forward_frozen(
        self, image: Tensor, reads: Optional[tuple[int, ...]]
    ) -> list[Optional[Tensor]]:
        """Encodes a frame without the meta networks and keeps nothing.

        Args:
            image, reads: See ``forward``.

        Returns:
            The outputs; None for each output not in ``reads``.
        """
        wanted, outputs = self._wanted(reads), {}
        x = self.encoder.units.stem(image)
        for index, part in enumerate(self.encoder.parts):
            x = self._run_units(index, x, None, outputs, wanted)
            x = self._leave(part.stop - 1, x, None, outputs, wanted)
        return [outputs.get(stage) for stage in self.encoder.units.out_stages]

    def _wanted(self, reads: Optional[tuple[int, ...]]) -> set[int]:
        """The stages of the output positions in ``reads``."""
        stages = list(self.encoder.units.out_stages)
        return set(stages if reads is None else [stages[position] for position in reads])

    def run_units(self, part: int, x: Tensor) -> Tensor:
        """Runs a part's frozen units alone, x̃_{k-1} to x_k, and keeps nothing."""
        return self._run_units(part, x, None, {}, set())

    def leave_part(self, part: int, x: Tensor) -> Tensor:
        """Runs the operation between a part's meta network and the next part; keeps nothing."""
        return self._leave(self.encoder.parts[part].stop - 1, x, None, {}, set())

    def _run_units(self, index, x, tape, outputs, wanted) -> Tensor:
        part = self.encoder.parts[index]
        for unit in range(part.start, part.stop):
            x = self.units[unit].forward(x, tape)
            if unit + 1 < part.stop:
                x = self._leave(unit, x, tape, outputs, wanted)
        return x

    def _leave(self, unit: int, x: Tensor, tape, outputs, wanted) -> Tensor:
        shape = self.encoder.units.shapes[unit]
        if not shape.ends_stage:
            return x
        operator = self.stages[shape.stage]
        if operator is not None:
            x = operator.forward(x, tape)
        if shape.stage in wanted:
            outputs[shape.stage] = x
        return x

    def backward(
        self,
        pending: dict[int, PendingGradient],
        plan: Plan,
        regularisation_weight: float,
        deliver: Deliver,
    ) -> None:
        """Propagates gradients from the outputs to all meta networks and frees all kept tensors.

        Args:
            pending: Gradients with respect to the outputs, by position.
            plan: The plan of the forward pass.
            regularisation_weight: λ times the weight of this sliding window in the frame.
            deliver: Called with each parameter and its gradient, see ``Deliver``.
        """
        stages = list(self.encoder.units.out_stages)
        gradients = {stages[position]: gradient for position, gradient in pending.items()}
        pending.clear()
        grad: Optional[Tensor] = None
        # One function does the whole loop. If a helper function replaced its gradient argument,
        # the caller would still hold the old gradient until the helper returns.
        while self._records:
            index, record = len(self._records) - 1, self._records.pop()
            part = self.encoder.parts[index]
            grad = self._enter(part.stop - 1, grad, record.end, gradients)
            again = self._again(index, record, plan)
            if grad is None:
                # No gradient comes from the prediction: only the regulariser has a gradient.
                grad = torch.zeros_like(again())
            grad, of_input = self.meta[index].backward(
                grad, record.input, record.meta, again, regularisation_weight / grad.numel(),
                deliver, index > 0, plan.workspace,
            )  # fmt: skip
            if index == 0:
                return
            if record.units is None:
                again()
            record.input = None
            for unit in range(part.stop - 1, part.start - 1, -1):
                if unit + 1 < part.stop:
                    grad = self._enter(unit, grad, record.units, gradients)
                into, of_input = (of_input, None) if unit == part.start else (None, of_input)
                grad = self.units[unit].backward(grad, record.units, into)

    def _again(self, index: int, record: _PartRecord, plan: Plan):
        """A function that recomputes x_k, and the units' tape if it was not kept."""

        def again() -> Tensor:
            tape = None
            if index > 0 and record.units is None:
                tape = record.units = Tape(plan.parts[index].keep_middle, plan.workspace)
            return self._run_units(index, record.input, tape, {}, set())

        return again

    def _enter(self, unit: int, grad, tape: Tape, gradients) -> Optional[Tensor]:
        shape = self.encoder.units.shapes[unit]
        if not shape.ends_stage:
            return grad
        if shape.stage in gradients:
            grad = gradients.pop(shape.stage)(grad)
        operator = self.stages[shape.stage]
        if operator is not None:
            if grad is None:
                tape.pop()
            else:
                grad = operator.backward(grad, tape)
        return grad
