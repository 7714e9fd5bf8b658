"""Attention with frozen projections that never holds the whole attention map.

Letters: B heads of all frames, Q queries, K keys, E channels per head.
"""

import math
from functools import cache

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from .spans import spans

# Elements of one band's attention map.
BAND_ELEMENTS = 2**21


def _bands(query: Tensor, key: Tensor) -> tuple[slice, ...]:
    others = query.shape[0] * key.shape[1]
    return spans(query.shape[1], BAND_ELEMENTS // max(1, others), query.device)


def scale_queries_(query: Tensor) -> Tensor:
    """Divides queries by the square root of their width, in place.

    The result equals that of ``F.multi_head_attention_forward`` with weights, bit for bit.

    Args:
        query: (B, Q, E), overwritten.

    Returns:
        ``query``.
    """
    width = query.shape[-1]
    if _torch_divides():
        return query.div_(math.sqrt(width))
    return query.mul_(math.sqrt(1.0 / width))


@cache
def _torch_divides() -> bool:
    """Whether torch's own attention divides its queries, as in torch 2.1.

    Later releases multiply the queries by the reciprocal, which rounds differently.
    """
    tokens = torch.empty(1, 1, 1, device='meta')
    with _Operators() as operators:
        nn.MultiheadAttention(1, 1, device='meta')(tokens, tokens, tokens)
    return torch.ops.aten.div in operators.called


class _Operators(TorchDispatchMode):
    """Records the operators that are called."""

    def __init__(self) -> None:
        super().__init__()
        self.called = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.called.add(func.overloadpacket)
        return func(*args, **(kwargs or {}))


def attend(query: Tensor, key: Tensor, value: Tensor, into: Tensor) -> Tensor:
    """softmax(query key^T) value, a band of queries at a time.

    The result equals that of ``F.multi_head_attention_forward`` with weights, bit for bit.

    Args:
        query: (B, Q, E), already scaled by E ** -0.5.
        key, value: (B, K, E).
        into: (B, Q, E), receives the result.

    Returns:
        ``into``.
    """
    for rows in _bands(query, key):
        scores = torch.bmm(query[:, rows], key.transpose(1, 2))
        into[:, rows] = torch.bmm(scores.softmax(dim=-1), value)
        del scores
    return into


def attend_gradients_(
    grad: Tensor, query: Tensor, key: Tensor, value: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """The gradients of ``attend``; the attention map is recomputed band by band.

    Args:
        grad: (B, Q, E), with respect to the result; overwritten with the query's gradient.
        query, key, value: As in the forward pass.

    Returns:
        The gradients of query (in ``grad``'s memory), key and value.
    """
    grad_key, grad_value = torch.zeros_like(key), torch.zeros_like(value)
    for rows in _bands(query, key):
        attention = torch.bmm(query[:, rows], key.transpose(1, 2)).softmax(dim=-1)
        upstream = grad[:, rows]
        grad_value.baddbmm_(attention.transpose(1, 2), upstream)
        grad_attention = torch.bmm(upstream, value.transpose(1, 2))
        grad_scores = torch.ops.aten._softmax_backward_data(
            grad_attention, attention, -1, attention.dtype
        )
        del attention, grad_attention
        grad_key.baddbmm_(grad_scores.transpose(1, 2), query[:, rows])
        grad[:, rows] = torch.bmm(grad_scores, key)
        del grad_scores
    return grad, grad_key, grad_value


class _ChunkedAttention(torch.autograd.Function):
    @staticmethod
    def forward(ctx, query, key, value):
        ctx.save_for_backward(query, key, value)
        return attend(query, key, value, torch.empty_like(query))

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad):
        return attend_gradients_(grad.clone(), *ctx.saved_tensors)


def chunked_attention(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """softmax(query key^T) value, differentiable once; keeps its three inputs.

    Args:
        query: (B, Q, E), already scaled.
        key, value: (B, K, E).

    Returns:
        (B, Q, E).
    """
    return _ChunkedAttention.apply(query, key, value)
