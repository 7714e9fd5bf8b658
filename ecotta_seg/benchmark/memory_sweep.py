"""Predicts peaks for frame sizes and numbers of meta networks, with tensors without data."""

from collections.abc import Iterable, Mapping
from copy import deepcopy
from typing import Callable, Optional

import torch

from ..memory.budget.plan import BudgetError
from ..memory.engine import EngineDryRun, Planner
from ..meta_networks import input_channels
from ..methods import build_method
from .memory_model import Frame, ModelSource, without_budget


def sweep(
    source: ModelSource,
    options: Mapping,
    sizes: Iterable[tuple[int, int]],
    num_parts: Iterable[int],
    budgets: Iterable[str],
    progress: Callable[[str], None] = lambda name: None,
) -> list[dict]:
    """Predicts the peak memory of EcoTTA's step in dry runs, so that any frame size is possible.

    Args:
        source: Builds the segmentors.
        options: Options of a method with meta networks and the memory engine. Their ``split``
            applies only if its length is K; for other K the default split is used.
        sizes: (height, width) of frames.
        num_parts: Values of K.
        budgets: See ``parse_budget``.
        progress: Called with a text before each prediction.

    Returns:
        For each K and frame size a dictionary with ``height``, ``width``, ``num_parts``,
        ``adapters_bytes``, ``inference_peak_bytes``, ``fastest_peak_bytes``,
        ``smallest_peak_bytes`` and ``budgets`` (for each budget the predicted peak, None if the
        budget cannot be met). All peaks are predictions, in bytes.
    """
    rows = []
    sizes, budgets = list(sizes), list(budgets)
    for parts in num_parts:
        method = build_method(_with_parts(options, parts), source.build()).eval()
        adapters = sum(p.nbytes for p in method.adapter_parameters().values())
        for height, width in sizes:
            progress(f'K={parts} at {height} x {width}')
            frame = _frame(height, width, input_channels(method.segmentor))
            planner, dry_run = Planner(method, None), EngineDryRun(method, *frame)
            fastest = planner.plan_by(dry_run, None)
            rows.append(
                dict(
                    height=height,
                    width=width,
                    num_parts=parts,
                    adapters_bytes=adapters,
                    inference_peak_bytes=fastest.inference_bytes,
                    fastest_peak_bytes=fastest.predicted_bytes,
                    smallest_peak_bytes=planner.smallest_by(dry_run).predicted_bytes,
                    budgets={str(b): _peak_within(planner, dry_run, b) for b in budgets},
                )
            )
    return rows


def _with_parts(options: Mapping, parts: int) -> dict:
    options = without_budget(deepcopy(dict(options)))
    meta_networks = dict(options['meta_networks'], num_parts=parts)
    if len(meta_networks.get('split') or ()) != parts:
        meta_networks.pop('split', None)
    return dict(options, meta_networks=meta_networks)


def _frame(height: int, width: int, channels: int) -> Frame:
    size = (height, width)
    inputs = torch.empty(1, channels, height, width, device='meta')
    return Frame(inputs, [dict(img_shape=size, ori_shape=size, pad_shape=size)])


def _peak_within(planner: Planner, dry_run: EngineDryRun, budget: str) -> Optional[int]:
    try:
        return planner.plan_by(dry_run, budget).predicted_bytes
    except BudgetError:
        return None
