"""Steps on tensors without data, to predict their memory.

A step on torch's ``meta`` device creates the same tensors as the real step and computes nothing.
The peak that the storage meter reads there is the peak of the real step.
"""

from typing import Optional

import torch
from mmseg.models.backbones import MixVisionTransformer
from torch import Tensor, nn

from ...inference.padding import frame_region, without_padding
from ...inference.reduced_frame import reduced_frame
from ...inference.windows import first_window, over_windows
from ...layers.calibrated_batch_norm import calibrated_norms, following
from ...layers.prediction_statistics import entropy_share
from .. import StorageMeter
from ..budget.known_results import KnownResults
from ..budget.plan import Drop, Plan
from ..budget.without_data import stock_inference_peak, without_data
from ..operation_counter import OperationCounter
from .memory_engine import GradientAccumulator, MemoryEngine, OptimizerInBackward

# All sliding windows have one size. During the second window the gradients of the first window are
# in memory; later windows need no more, so two windows suffice. For a padded frame all windows run,
# because windows with padding need more memory.
_WINDOWS = 2


class EngineDryRun:
    """Runs steps without data for one frame size, in the model's test mode (whole or sliding).

    Args:
        method: An ``EcoTTA``; not changed.
        inputs: (N, 3, H, W); only the shape counts.
        metas: Metainfo of the N samples.
    """

    def __init__(self, method: nn.Module, inputs: Tensor, metas: list[dict]) -> None:
        self._method, self._metas = method, metas
        self._segmentor = without_data(method.segmentor)
        self._inputs = torch.empty_like(inputs, device='meta')
        self._engine = MemoryEngine(
            self._segmentor, method.relative_regularisation, method.regularisation_smoothing
        )
        self._calibrated = calibrated_norms(self._segmentor)
        names = dict(self._segmentor.named_parameters())
        self._parameters = [names[name] for name in method.adaptable_parameters()]
        self._transformer = isinstance(method.encoder.backbone, MixVisionTransformer)
        self._known = KnownResults()
        self._peaks: dict[Plan, int] = {}
        self._inference: Optional[int] = None
        self._probe: Optional[int] = None
        self._standing = self._optimizer_bytes()

    def _optimizer_bytes(self) -> int:
        """Bytes of the optimizer's state, measured by an optimizer step without data."""
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
        """Peak bytes of a frame under this plan, including the optimizer's state and the probe."""
        if plan not in self._peaks:
            self._peaks[plan] = max(self._run(plan), self._probe_peak()) + self._standing
        return self._peaks[plan]

    def _probe_peak(self) -> int:
        """Peak bytes of the frozen model's run before the step; 0 if the method has none."""
        scale = self._method.probe_scale
        if scale is not None and self._probe is None:
            with self._known, StorageMeter(device='meta') as meter, following(self._calibrated):
                probe = reduced_frame(self._inputs, self._metas, scale)
                entropy_share(without_padding(self._engine.predict_frozen(*probe), probe[1]))
            self._probe = meter.peak_bytes
        return self._probe or 0

    def costs(self) -> dict[Drop, int]:
        """For each tensor that a plan may drop, the operations per window that recompute it."""
        found: dict[Drop, int] = {}
        operator = self._engine.operator
        with torch.no_grad():
            window = first_window(self._segmentor, self._inputs, self._metas)
            x = self._segmentor.backbone.units.stem(window)
            for part in range(len(operator.meta)):
                with OperationCounter() as units:
                    output = operator.run_units(part, x)
                with OperationCounter() as block:
                    operator.meta[part].module.convolve(x)
                found[part, 'keep_output'] = found[part, 'keep_units'] = units.operations
                if operator.meta[part].by_channels and output.is_contiguous():
                    found[part, 'keep_block'] = block.operations
                if self._transformer:
                    # Attention and its projections take about a third of a layer's operations.
                    found[part, 'keep_middle'] = units.operations // 3
                x = operator.leave_part(part, output)
        return found

    def _run(self, plan: Plan) -> int:
        meter = self._metered(plan)
        # The first step may create tables that stay in memory. If so, measure the second step.
        return (self._metered(plan) if meter.current_bytes else meter).peak_bytes

    def _metered(self, plan: Plan) -> StorageMeter:
        method = self._method
        if plan.update_in_place:
            optimizer = method.build_optimizer(self._parameters)
            deliver = OptimizerInBackward(optimizer)
            for parameter in self._parameters:
                if optimizer.param_groups[0]['momentum']:
                    optimizer.state[parameter]['momentum_buffer'] = torch.empty_like(parameter)
        else:
            deliver = GradientAccumulator()

        def run(crop: Tensor, metas: list[dict], share: float) -> Tensor:
            return self._engine.run(
                crop, metas, share, plan, method.pixel_weights,
                method.regularisation_weight, deliver,
            ).logits  # fmt: skip

        padded = frame_region(self._inputs, self._metas[0]) is not None
        most = None if padded else _WINDOWS
        try:
            with self._known, StorageMeter(device='meta') as meter, following(self._calibrated):
                over_windows(self._segmentor, self._inputs, self._metas, run, most)
        finally:
            for parameter in self._parameters:
                parameter.grad = None
        return meter

    def inference_peak(self) -> int:
        """Peak bytes of stock inference: no meta networks, and the source's own statistics."""
        if self._inference is not None:
            return self._inference
        self._inference = stock_inference_peak(
            self._segmentor, self._inputs, self._metas, self._known
        )
        return self._inference
