"""Counts floating-point operations, also on tensors without data.

torch's own ``FlopCounterMode`` is not used: it leaves out products that are added in
place, counts the weight's gradient of a grouped convolution too high, differs between versions of
torch, and does not allow modules that run again during ``torch.autograd.grad``.
"""

from typing import Any, Callable

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

_ATEN = torch.ops.aten


class OperationCounter(TorchDispatchMode):
    """Context manager that counts the operations of matrix products and of convolutions.

    An addition and a multiplication are two operations. The gradients of a convolution count, too.
    All other operators count as 0.

    Attributes:
        operations: The number of operations counted so far.
    """

    def __init__(self) -> None:
        super().__init__()
        self.operations = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        formula = _FORMULAS.get(getattr(func, '_overloadpacket', None))
        if formula is not None:
            self.operations += formula(result, *args)
        return result


def _of_product(result: Tensor, a: Tensor, b: Tensor, *options: Any) -> int:
    """Operations of the matrix product (..., M, K) times (..., K, N)."""
    return 2 * a.numel() * b.shape[-1]


def _of_added_product(result: Tensor, total: Tensor, a: Tensor, b: Tensor, *options: Any) -> int:
    """Operations of a matrix product that is added to ``total``; the addition counts as 0."""
    return _of_product(result, a, b)


def _of_convolution(result: Tensor, x: Tensor, weight: Tensor, *options: Any) -> int:
    """One kernel is applied per output pixel; in a transposed convolution, per input pixel."""
    sites = x if options[4] else result
    return 2 * len(sites) * sites.shape[2:].numel() * weight.numel()


def _of_gradients(result: Any, grad: Tensor, x: Tensor, weight: Tensor, *options: Any) -> int:
    """Each gradient of a convolution takes as many operations as the convolution."""
    *_, (of_input, of_weight, _) = options
    return (of_input + of_weight) * _of_convolution(grad, x, weight, *options)


def _of_tap(result: Tensor, total: Tensor, maps: Tensor, weight: Tensor, *options: Any) -> int:
    """One tap of a depthwise kernel times shifted (N, C, h, w) maps, in a hand-written gradient."""
    return 2 * maps.numel() if weight.shape[-2:] == (1, 1) else 0


_FORMULAS: dict[Any, Callable[..., int]] = {
    _ATEN.mm: _of_product,
    _ATEN.bmm: _of_product,
    _ATEN.addmm: _of_added_product,
    _ATEN.addmm_: _of_added_product,
    _ATEN.baddbmm: _of_added_product,
    _ATEN.baddbmm_: _of_added_product,
    _ATEN.addcmul_: _of_tap,
    _ATEN.convolution: _of_convolution,
    _ATEN.convolution_backward: _of_gradients,
}
