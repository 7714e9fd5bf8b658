"""Counts the floating-point operations of a method on a frame, with tensors without data."""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ..inference.autocast import leave_autocast
from ..inference.reduced_frame import reduced_frame
from ..inference.views import view_probabilities
from ..memory.budget.dry_run import method_without_data
from ..memory.budget.known_results import KnownResults
from ..memory.operation_counter import OperationCounter
from .source import SourceModel


class FrameCosts(NamedTuple):
    """Floating-point operations on one frame size.

    Attributes:
        inference: Stock inference with one view.
        prediction: A frame that the method predicts only, with all of its views.
        step: The operations that learning adds to ``prediction``. The guard checks only some steps;
            its checks are averaged over all steps.
        estimate: The operations that the estimate of mIoU adds to a frame that is estimated; 0
            without an estimate.
        source: The operations of the source's prediction, which are added to a frame that is not
            estimated if the run returns the source's prediction.
    """

    inference: int
    prediction: int
    step: float
    estimate: int
    source: int


def frame_costs(method: Any, stock: SourceModel, inputs: Tensor, metas: list[dict]) -> FrameCosts:
    """Counts the operations of a frame in dry runs.

    The number for a step assumes that the whole step runs. If the method finds, for example, no
    confident pixel, the step takes fewer operations.

    Args:
        method: An ``AdaptationMethod``; not changed.
        stock: The source model without data.
        inputs: (N, 3, H, W), preprocessed and padded; only the shape counts.
        metas: Metainfo of the N samples.

    Raises:
        ValueError: The method or its model does not run on tensors without data.
    """
    try:
        return _frame_costs(method, stock, inputs, metas)
    except (NotImplementedError, RuntimeError, TypeError) as error:
        raise ValueError(
            f'the operations of {type(method).__name__} on this model cannot be counted '
            f'({str(error).splitlines()[0]}): leave out compute_budget'
        ) from error


def _frame_costs(method: Any, stock: SourceModel, inputs: Tensor, metas: list[dict]) -> FrameCosts:
    planner = getattr(method, 'planner', None)
    if planner is not None:
        # The copy below uses this plan, which may recompute modules to keep a memory budget.
        planner.plan_for(inputs, metas)
    copy = method_without_data(method).eval()
    leave_autocast(copy.segmentor)
    # Count from the initial state, so that a resumed run counts the same numbers.
    copy.reset()
    if planner is not None:
        copy.planner = planner
    inputs = torch.empty_like(inputs, device='meta')
    known = KnownResults()

    def count(run: Callable[..., Any], *frame: Any) -> int:
        # mmseg writes into the metainfo of sliding windows.
        x, own = frame or (inputs, metas)
        with known, OperationCounter() as counter:
            run(x, [dict(meta) for meta in own])
        return counter.operations

    def of_view(model: nn.Module, view: Any) -> int:
        return count(lambda x, own: view_probabilities(model.predict, x, own, view))

    views = count(copy.other_views)
    prediction = count(copy.predict_frame)
    step: float = count(copy.adapt) - prediction
    if method.guard is not None:
        small = reduced_frame(inputs, metas, method.guard.scale)
        check = count(copy.predict, *small) + count(copy.predict_reference, *small)
        step += check / method.guard.check_every
    inference, estimate, source = count(stock.predict), 0, 0
    if method.estimate is not None:
        stock.views = method.views
        source = count(stock.other_views) + inference
        view = method.estimate.view
        estimate = source + of_view(copy, view) + of_view(stock, view)
    return FrameCosts(inference, views + prediction, step, estimate, source)
