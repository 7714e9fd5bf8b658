"""Measures the peak memory of stock inference and of adaptation on frames of the stream."""

from dataclasses import asdict, replace
from statistics import fmean, median
from typing import Optional

import torch
from mmengine.hooks import Hook
from mmengine.registry import HOOKS

from ..memory import (
    MemoryReport,
    PeakMeter,
    StandingMemory,
    measure_peak,
    meter_name,
    process_peak_bytes,
    reset_process_peak,
    standing_memory,
)
from ..methods.frame_life import Turn
from .loop_times import LoopTimes
from .run_record import RunRecord
from .source_reference_hook import source_hook


@HOOKS.register_module()
class MemoryHook(Hook):
    """Measures peak memory and time per frame, for the report.

    The memory meter costs time, so it runs on a few frames only. The times leave out these frames.
    The result goes to the message hub as ``ecotta_seg/memory`` and
    ``ecotta_seg/seconds_per_frame``. If the memory engine ran, the result also holds the engine's
    plan and its fallbacks to autograd.

    The loop overhead (waiting for data, the metric, all hooks) is the mean time from the end
    of one frame to the end of the next, minus the time of the step. Frames that the source predicts
    as well (round 1) do not count.

    If the method has a ``ComputeBudget``, ``compute`` in ``ecotta_seg/extra`` holds
    ``ComputeBudget.to_dict()``. The times then also hold the mean time of the steps, because a few
    frames may take most of the time.

    Args:
        frames: Number of frames to measure, at least 2. The optimizer creates its state in the
            first measured step, and the meter counts this state as an activation. So the first peak
            is reported only if there is no other.
    """

    priority = Turn.MEASURE

    def __init__(self, frames: int = 3) -> None:
        self.frames = max(2, frames)
        self._peaks: list[int] = []
        self._seconds: list[float] = []
        self._loop = LoopTimes()
        self._inference: Optional[int] = None
        self._standing = None
        self._measured = 0
        self._plan: dict = {}
        self._in_place = False

    def before_test_epoch(self, runner) -> None:
        """Resets the process's peak memory, because loading the model is not part of a step."""
        reset_process_peak()

    def before_test_iter(self, runner, batch_idx, data_batch=None) -> None:
        """Attaches the meter to the next step."""
        if self._measured >= self.frames or not hasattr(runner.model, 'observer'):
            return
        model = runner.model
        self._standing = _standing(model)
        model.observer = PeakMeter(self._device(model))

    def after_test_iter(self, runner, batch_idx, data_batch=None, outputs=None) -> None:
        """Records the step's time or, with the meter, its peak; once also the source's peak."""
        model = runner.model
        if not hasattr(model, 'observer'):
            return
        source = source_hook(runner)
        alone = source is None or all(sample.get('round', 1) != 1 for sample in outputs)
        self._loop.end_of_frame(
            model.last_step.seconds if alone and model.observer is None else None, len(outputs)
        )
        if model.observer is None:
            self._seconds.append(model.last_step.seconds / len(outputs))
            return
        self._peaks.append(model.observer.peak_bytes)
        model.observer = None
        self._measured += 1
        planned = getattr(model, 'planned', None)
        fallbacks = model.fallbacks()
        if planned is not None:
            self._plan = {**planned.to_dict(), 'fallbacks': fallbacks}
            self._in_place = planned.plan.update_in_place
        elif fallbacks:
            self._plan = {'fallbacks': fallbacks}
        if source is not None and self._inference is None:
            self._inference = measure_peak(lambda: source.predict(data_batch), self._device(model))

    @property
    def peak_bytes(self) -> Optional[int]:
        """Largest peak of the measured steps in bytes; None before a measurement.

        The first step counts only if there is no other.
        """
        # The first step creates the optimizer's state: it counts only if there is no other step.
        return max(self._peaks[1:] or self._peaks) if self._peaks else None

    def state_dict(self) -> dict:
        """Returns all measurements."""
        return {
            'peaks': list(self._peaks),
            'seconds': torch.tensor(self._seconds, dtype=torch.float64),
            'loop': self._loop.state_dict(),
            'inference': self._inference,
            'standing': asdict(self._standing) if self._standing is not None else None,
            'measured': self._measured,
            'plan': self._plan,
            'in_place': self._in_place,
        }

    def load_state_dict(self, state: dict) -> None:
        """Restores a result of ``state_dict``."""
        self._peaks, self._seconds = list(state['peaks']), state['seconds'].tolist()
        self._loop.load_state_dict(state['loop'])
        self._inference, self._measured = state['inference'], state['measured']
        self._plan, self._in_place = state['plan'], state['in_place']
        if state['standing'] is not None:
            self._standing = StandingMemory(**state['standing'])

    @staticmethod
    def _device(model) -> torch.device:
        return next(model.parameters()).device

    def after_test_epoch(self, runner, metrics=None) -> None:
        """Writes the measurements to the message hub."""
        model = runner.model
        if getattr(model, 'compute_budget', None) is not None:
            extra = RunRecord(runner).extra
            extra['compute'] = model.compute_budget.to_dict()
            RunRecord(runner).extra = extra
        if not self._peaks:
            return
        gradients = sum(p.numel() * p.element_size() for p in model.adaptable_parameters().values())
        if self._in_place:
            # Each gradient is applied and freed at once, so none is held at the peak.
            gradients = 0
        device = self._device(model)
        # A guard's good state includes the optimizer's only after the measured frames.
        kept = max(self._standing.kept_bytes, _standing(model).kept_bytes)
        report = MemoryReport.build(
            replace(self._standing, kept_bytes=kept),
            self.peak_bytes,
            self._inference,
            transient_gradients_bytes=gradients,
            process_peak_bytes=process_peak_bytes(),
            device=str(device),
            meter=meter_name(device),
            extra=self._plan,
        )
        RunRecord(runner).memory = report.to_dict()
        inference = RunRecord(runner).source_seconds
        seconds = dict(
            inference=inference,
            adaptation=median(self._seconds) if self._seconds else None,
            harness=self._loop.overhead_seconds,
            harness_share=self._loop.overhead_share,
        )
        if getattr(model, 'compute_budget', None) is not None and self._seconds:
            seconds['adaptation_mean'] = fmean(self._seconds)
        RunRecord(runner).seconds_per_frame = seconds


def _standing(model) -> StandingMemory:
    return standing_memory(model, model.adapter_parameters(), getattr(model, 'optimizer', None))
