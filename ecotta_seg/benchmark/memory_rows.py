"""Measures the memory and the time of a step, one method after the other.

The contents of a row, in bytes:

    * ``step_peak_bytes``: peak of one step above the memory held before the step, by the meter.
    * ``peak_bytes``: ``step_peak_bytes`` plus the memory that the adaptation holds between two
      steps: gradients, the optimizer's state, and other tensors of a step that are neither
      parameters nor copies of parameters (``other_bytes``). It equals ``adaptation_peak_bytes`` of
      a run's report.
    * ``gradients_bytes``: gradients of one step; 0 if the optimizer runs in the backward pass,
      which uses and frees each gradient at once.
    * ``copies_bytes``: copies of parameters: those for a reset, and those of a teacher or an
      anchor. It equals ``kept_bytes`` of a run's report, which also includes a guard's last good
      state.
    * ``total_bytes``: the sum of parameters, adapters, copies and ``peak_bytes``.

The first step is not measured, because it creates the optimizer's state.
"""

import gc
import time
from collections.abc import Iterable
from statistics import median
from typing import Callable, Optional

import torch
from torch import nn

from ..memory import (
    MemoryReport,
    StandingMemory,
    StorageMeter,
    measure_peak,
    module_tensors,
    standing_memory,
    storage_bytes,
)
from ..memory.budget.plan import BudgetError
from ..methods.step_record import StepRecord
from .memory_model import Candidate, Frame, ModelSource

# The keys of every row; a value that could not be measured is None.
ROW_KEYS = (
    *('name', 'peak_bytes', 'total_bytes', 'seconds', 'peak_to_inference', 'total_to_inference'),
    *('seconds_to_inference', 'inference_seconds', 'planning_seconds', 'step_peak_bytes'),
    *('parameters_bytes', 'adapters_bytes', 'copies_bytes', 'gradients_bytes'),
    *('optimizer_bytes', 'other_bytes'),
    *('confident_fraction', 'predicted_peak_bytes', 'budget_bytes', 'plan', 'fallbacks'),
    *('smallest_bytes', 'error'),
)
_OF_ADAPTING = (
    *('adapters_bytes', 'copies_bytes', 'gradients_bytes', 'optimizer_bytes', 'other_bytes'),
)


def measure_rows(
    source: ModelSource,
    frame: Frame,
    candidates: Iterable[Candidate],
    repeats: int = 5,
    progress: Callable[[str], None] = lambda name: None,
) -> list[dict]:
    """Measures stock inference and then every candidate; each candidate is freed before the next.

    Memory and time are measured in separate steps, because a meter slows a step. Timed steps
    alternate with stock inference, so that other load on the machine affects both.

    Args:
        source: Builds the segmentors.
        frame: The frame, which is the same in every step.
        candidates: The methods.
        repeats: Number of timed steps per method.
        progress: Called with the name of a row before its measurement.

    Returns:
        One dictionary with ``ROW_KEYS`` for each row; the first row is ``inference``.
    """
    progress('inference')
    stock, device = source.build(), frame.inputs.device
    infer = stock_inference(stock, frame)
    peak = measure_peak(infer, device)
    seconds = median(seconds_of(infer, device) for _ in range(repeats))
    parameters = storage_bytes(module_tensors(stock))
    inference = dict(
        name='inference', step_peak_bytes=peak, peak_bytes=peak, parameters_bytes=parameters,
        total_bytes=parameters + peak, seconds=seconds, inference_seconds=seconds,
        **dict.fromkeys(_OF_ADAPTING, 0),
    )  # fmt: skip
    rows = [inference]
    for candidate in candidates:
        progress(candidate.name)
        try:
            row = measure_candidate(candidate, source, frame, infer, repeats)
        except BudgetError as error:
            row = dict(
                budget_bytes=error.budget_bytes, smallest_bytes=error.smallest_bytes,
                error=str(error),
            )  # fmt: skip
        except ValueError as error:
            # The engine does not support this model, so it has no budget; the other rows remain.
            if candidate.budget is None:
                raise
            row = dict(error=str(error))
        except torch.cuda.OutOfMemoryError:
            row = dict(error='the device does not have enough memory for this row')
        rows.append(dict(row, name=candidate.name))
        gc.collect()
    return [_with_ratios(row, inference) for row in rows]


def measure_candidate(
    candidate: Candidate,
    source: ModelSource,
    frame: Frame,
    infer: Callable[[], None],
    repeats: int,
) -> dict:
    """Builds one method, runs it and measures it; see ``measure_rows``.

    Raises:
        BudgetError: The candidate's memory budget cannot be met.
    """
    device = frame.inputs.device
    everything = _Standing(device)
    with everything:
        method = candidate.build(source.build()).to(device).eval()
    planning = None
    if getattr(method, 'planner', None) is not None:
        # Plan before the first step. The step would plan as well, but slowly under a meter.
        planning = seconds_of(lambda: method.planner.plan_for(*frame), device)

    def step() -> None:
        method.last_step = StepRecord()
        with torch.no_grad():
            method.adapt(*frame)

    with everything:
        step()
        gc.collect()
    adapters = list(method.adapter_parameters().values())
    standing = standing_memory(method, adapters, method.optimizer)
    # Memory that is still held and that ``standing_memory`` does not find.
    other = max(0, everything.bytes() - standing.total_bytes)
    peak = measure_peak(step, device)
    row = _row_of(method, standing, other, peak)
    row['planning_seconds'] = planning
    row['inference_seconds'], row['seconds'] = seconds_in_turn(infer, step, device, repeats)
    return row


def _row_of(method: nn.Module, standing: StandingMemory, other: int, peak: int) -> dict:
    planned = getattr(method, 'planned', None)
    gradients = 0
    if planned is None or not planned.plan.update_in_place:
        gradients = storage_bytes(method.adaptable_parameters().values())
    report = MemoryReport.build(standing, peak, transient_gradients_bytes=gradients)
    row = dict(
        step_peak_bytes=peak,
        peak_bytes=report.adaptation_peak_bytes + other,
        parameters_bytes=standing.parameters_bytes,
        adapters_bytes=standing.adapters_bytes,
        copies_bytes=standing.kept_bytes,
        gradients_bytes=report.gradients_bytes,
        optimizer_bytes=standing.optimizer_bytes,
        other_bytes=other,
        total_bytes=report.total_bytes + other,
        confident_fraction=float(method.last_step.confident_fraction),
        fallbacks=method.fallbacks() or None,
    )
    if planned is not None:
        row.update(
            predicted_peak_bytes=planned.predicted_bytes,
            budget_bytes=planned.budget_bytes,
            plan=planned.plan.describe(),
            fallbacks=method.fallbacks(),
        )
    return row


class _Standing:
    """Context manager that measures the memory of all tensors created inside and still alive.

    The context may be entered again after it has been left. On the CPU, tensors created in between
    do not count.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._meter = None if device.type == 'cuda' else StorageMeter(device=device.type)
        self._before: Optional[int] = None

    def __enter__(self) -> '_Standing':
        if self._meter is not None:
            self._meter.__enter__()
        elif self._before is None:
            self._before = torch.cuda.memory_allocated(self._device)
        return self

    def __exit__(self, *error) -> None:
        if self._meter is not None:
            self._meter.__exit__(*error)

    def bytes(self) -> int:
        """Bytes alive now."""
        if self._meter is None:
            return torch.cuda.memory_allocated(self._device) - self._before
        return self._meter.current_bytes


def stock_inference(stock: nn.Module, frame: Frame) -> Callable[[], None]:
    """Returns a function that predicts the frame with the source model; it has run once."""

    def infer() -> None:
        with torch.no_grad():
            stock.encode_decode(*frame)

    infer()
    return infer


def seconds_in_turn(
    infer: Callable[[], None], step: Callable[[], None], device: torch.device, repeats: int
) -> tuple[float, float]:
    """Median seconds of inference and of a step, which run alternately."""
    pairs = [(seconds_of(infer, device), seconds_of(step, device)) for _ in range(repeats)]
    inference, steps = zip(*pairs)
    return median(inference), median(steps)


def seconds_of(function: Callable[[], None], device: torch.device) -> float:
    """The seconds that a call takes on a device."""
    if device.type == 'cuda':
        torch.cuda.synchronize(device)
    start = time.perf_counter()
    function()
    if device.type == 'cuda':
        torch.cuda.synchronize(device)
    return time.perf_counter() - start


def _with_ratios(row: dict, inference: dict) -> dict:
    """The row with all keys and with ratios to stock inference."""
    row = {**dict.fromkeys(ROW_KEYS), **row}
    for key in ('peak', 'total'):
        if row[f'{key}_bytes'] is not None:
            row[f'{key}_to_inference'] = row[f'{key}_bytes'] / inference[f'{key}_bytes']
    if row['seconds'] is not None:
        row['seconds_to_inference'] = row['seconds'] / row['inference_seconds']
    return row
