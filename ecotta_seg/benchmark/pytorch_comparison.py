"""Compares EcoTTA's step by this package with the same step by PyTorch's and mmseg's own means.

All rows compute the same gradients, up to rounding. So the table compares memory and time, and it
also shows the rounding errors of the gradients.
"""

import gc
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import deepcopy
from statistics import median
from typing import Any, Callable, NamedTuple, Optional

import torch
from torch import Tensor, nn

from ..memory.allocator_peak import allocator_peak_bytes
from ..methods import build_method
from .memory_model import Frame, ModelSource
from .memory_rows import seconds_in_turn, seconds_of, stock_inference


class Variant(NamedTuple):
    """A way to run the same step.

    Attributes:
        name: The name of the row.
        options: Options that replace those in ``options`` of ``compare``.
        lean: Whether the step runs by lean autograd (``LeanAutograd``).
        with_cp: Whether the model's blocks recompute their inner tensors (mmseg's ``with_cp``).
        activation_budget: ``activation_memory_budget`` of ``torch.compile``, 0 to 1: the share of
            the activations that the compiler may keep. None to run without the compiler.
    """

    name: str
    options: Mapping[str, Any] = {}
    lean: bool = True
    with_cp: bool = False
    activation_budget: Optional[float] = None


def variants(budgets: Iterable[str], activation_budgets: Sequence[float]) -> list[Variant]:
    """The rows of the comparison.

    Args:
        budgets: Memory budgets for the memory engine, see ``parse_budget``.
        activation_budgets: See ``Variant``.
    """
    plain = dict(memory_engine=False)
    return [
        Variant('plain autograd', plain, lean=False),
        Variant('with_cp=True', plain, lean=False, with_cp=True),
        *(
            Variant(f'torch.compile, {share:g}', plain, lean=False, activation_budget=share)
            for share in activation_budgets
        ),
        Variant('lean autograd', plain),
        Variant('engine, fastest'),
        *(Variant(f'engine, {budget}', dict(memory_budget=budget)) for budget in budgets),
    ]


def compare(
    source: ModelSource,
    frame: Frame,
    options: dict,
    rows: Iterable[Variant],
    repeats: int = 5,
    backend: str = 'inductor',
    progress: Callable[[str], None] = lambda name: None,
) -> list[dict]:
    """Measures stock inference and each variant of a method's step, one after the other.

    Args:
        source: Builds the segmentors.
        frame: The frame of each step.
        options: Options of a method with meta networks, as for ``build_method``, without a memory
            budget.
        rows: See ``variants``.
        repeats: Number of timed steps for each row. They alternate with stock inference.
        backend: Backend of ``torch.compile``.
        progress: Called with the name of a row before its measurement.

    Returns:
        A dictionary for each row; the first row is ``inference``. Its keys:

            - ``name``: Name of the row.
            - ``peak_bytes``: The most bytes that the allocator holds in a step, including the
              buffers of kernels.
            - ``compile_seconds``: Time of the first step; None without a compiler.
            - ``seconds``: Time of a step.
            - ``inference_seconds``: Time of stock inference, measured in turn with the step.
            - ``gradient_error``: The largest error of a gradient against float64, divided by the
              largest entry of the gradient of this parameter. None if the optimizer runs in the
              backward pass.
            - ``error``: The reason if the row could not be measured, else None.
    """
    progress('inference')
    infer, device = stock_inference(source.build(), frame), frame.inputs.device
    inference = _row('inference', peak_bytes=allocator_peak_bytes(infer, device))
    inference['seconds'] = median(seconds_of(infer, device) for _ in range(repeats))
    inference['inference_seconds'] = inference['seconds']
    exact, found = _exact_gradients(source, frame, options), [inference]
    for variant in rows:
        progress(variant.name)
        try:
            row = _measured(variant, source, frame, options, exact, infer, repeats, backend)
        except ValueError as error:
            row = _row(variant.name, error=str(error))
        found.append(row)
        gc.collect()
    return found


def _row(name: str, **values: Any) -> dict:
    keys = ('peak_bytes', 'compile_seconds', 'seconds', 'inference_seconds', 'gradient_error')
    return {'name': name, **dict.fromkeys((*keys, 'error')), **values}


def _measured(
    variant: Variant,
    source: ModelSource,
    frame: Frame,
    options: dict,
    exact: dict[str, Tensor],
    infer: Callable[[], None],
    repeats: int,
    backend: str,
) -> dict:
    """Measures the row of a variant, see ``compare``. Raises ValueError if it cannot run."""
    device = frame.inputs.device
    method = _built(variant, source.build(), options)
    row = _row(variant.name)
    with _compiled(method.segmentor, variant.activation_budget, backend):
        start = time.perf_counter()
        row['gradient_error'] = _error(_gradients(method, frame), exact)
        if variant.activation_budget is not None:
            row['compile_seconds'] = time.perf_counter() - start

        def step() -> None:
            with torch.no_grad():
                method.adapt(*frame)

        step()
        gc.collect()
        row['peak_bytes'] = allocator_peak_bytes(step, device)
        row['inference_seconds'], row['seconds'] = seconds_in_turn(infer, step, device, repeats)
    return row


def _built(variant: Variant, segmentor: nn.Module, options: dict) -> nn.Module:
    method = build_method({**deepcopy(options), **variant.options}, segmentor).eval()
    method.lean = variant.lean
    if variant.with_cp:
        checkpoint_blocks(segmentor)
    return method


def checkpoint_blocks(segmentor: nn.Module) -> None:
    """Sets mmseg's option ``with_cp`` in each block that has the option.

    Raises:
        ValueError: No block has the option.
    """
    blocks = [module for module in segmentor.modules() if hasattr(module, 'with_cp')]
    if not blocks:
        raise ValueError("expected blocks with mmseg's option with_cp, the model has none")
    for block in blocks:
        block.with_cp = True


@contextmanager
def _compiled(segmentor: nn.Module, budget: Optional[float], backend: str) -> Iterator[None]:
    """Context manager that compiles a segmentor's forward pass; does nothing without a budget."""
    if budget is None:
        yield
        return
    from torch._functorch import config

    if not hasattr(config, 'activation_memory_budget'):
        raise ValueError(
            f'expected torch from 2.4 on, whose compiler has a budget, not {torch.__version__}'
        )
    torch._dynamo.reset()
    # EcoTTA's step runs several backward passes on one graph: for the entropy and each
    # regulariser.
    changes = {'activation_memory_budget': budget, 'donated_buffer': False}
    with config.patch({k: v for k, v in changes.items() if hasattr(config, k)}):
        segmentor.encode_decode = torch.compile(segmentor.encode_decode, backend=backend)
        try:
            yield
        finally:
            del segmentor.encode_decode


def _exact_gradients(source: ModelSource, frame: Frame, options: dict) -> dict[str, Tensor]:
    """The gradients of plain autograd in float64, by the names of the parameters."""
    variant = Variant('exact', dict(memory_engine=False), lean=False)
    method = _built(variant, source.build().double(), options)
    return _gradients(method, Frame(frame.inputs.double(), frame.metas))


def _gradients(method: nn.Module, frame: Frame) -> Optional[dict[str, Tensor]]:
    """The gradients of a proposed step, without an update; None if the backward updates already."""
    with torch.no_grad():
        method.propose(*frame)
    parameters = method.adaptable_parameters()
    if any(parameter.grad is None for parameter in parameters.values()):
        return None
    gradients = {name: parameter.grad.clone() for name, parameter in parameters.items()}
    method.discard()
    return gradients


def _error(gradients: Optional[dict[str, Tensor]], exact: dict[str, Tensor]) -> Optional[float]:
    if gradients is None:
        return None
    return max(
        float((gradients[name] - expected).abs().max() / expected.abs().max().clamp_min(1e-30))
        for name, expected in exact.items()
        if expected.abs().max() > 0
    )
