"""The network at half the width: its forward under ``torch.autocast``, and nothing else.

Autocast runs convolutions and matrix products on bfloat16 copies of their inputs and weights, and
autograd keeps those copies. The parameters stay float32, and with them gradients, optimizer and
everything that is computed from logits: these leave the network as float32, before they are
resized to the frame. bfloat16 has float32's range, so no gradient has to be scaled.
"""

from types import MethodType
from typing import Optional

import torch
from mmseg.models.decode_heads.cascade_decode_head import BaseCascadeDecodeHead
from mmseg.models.decode_heads.decode_head import BaseDecodeHead
from torch import Tensor, nn
from torch.utils._pytree import tree_flatten, tree_map

PRECISIONS = {'bf16': torch.bfloat16}
# In units of the largest right value; rounding stays below 0.01.
_WRONG = 0.1
# They do nothing with the features but hand them to ``forward``.
_STOCK_PREDICTS = (BaseDecodeHead.predict, BaseCascadeDecodeHead.predict)


def autocast_dtype(name: Optional[str]) -> Optional[torch.dtype]:
    """The dtype of an ``autocast`` option; None for None.

    Raises:
        ValueError: The name is unknown.
    """
    if name is None:
        return None
    if not isinstance(name, str) or name not in PRECISIONS:
        raise ValueError(f'expected autocast to be one of {[*PRECISIONS]} or None, got {name!r}')
    return PRECISIONS[name]


def run_under_autocast(segmentor: nn.Module, dtype: torch.dtype) -> None:
    """Has every forward of a segmentor's network run under autocast from now on.

    Whoever calls it sees no difference but in the numbers. It is the object's own methods that
    are exchanged: a wrapper around modules would rename what a checkpoint holds.

    Args:
        segmentor: An mmseg ``EncoderDecoder``; changed in place.
        dtype: Of convolutions and matrix products.
    """
    segmentor.autocast_dtype = dtype
    segmentor.extract_feat = MethodType(_extract_feat, segmentor)
    heads = segmentor.decode_head
    for head in heads if isinstance(heads, nn.ModuleList) else [heads]:
        head.autocast_dtype = dtype
        head.forward = MethodType(_head_forward, head)
        if type(head).predict not in _STOCK_PREDICTS:
            head.predict = MethodType(_head_predict, head)


def _autocast(x: Tensor, dtype: torch.dtype) -> torch.autocast:
    # Without a cache of cast weights: each is used once a forward, and between two forwards it may
    # have been changed in place.
    return torch.autocast(x.device.type, dtype=dtype, cache_enabled=False)


def wrong_convolutions(segmentor: nn.Module, dtype: torch.dtype) -> list[str]:
    """Convolutions that this machine computes wrongly under autocast, not just less exactly.

    torch 2.13 on processors with AMX does so where 8 to 24 channels are reduced patch by patch
    (kernel and stride alike, 4 or more): the result has nothing to do with the right one. Each
    such convolution is tried on a small noise. Only on a CPU; elsewhere none is tried.

    Args:
        segmentor: Any module.
        dtype: Of the convolutions under autocast.

    Returns:
        Names of modules; empty where all is well.
    """
    return [
        name
        for name, module in segmentor.named_modules()
        if isinstance(module, nn.Conv2d)
        and module.weight.device.type == 'cpu'
        and module.kernel_size == module.stride
        and max(module.kernel_size) > 1
        and _is_wrong(module, dtype)
    ]


@torch.no_grad()
def _is_wrong(convolution: nn.Conv2d, dtype: torch.dtype) -> bool:
    size = [4 * side for side in convolution.kernel_size]
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(1, convolution.in_channels, *size, generator=generator)
    noise = noise.to(convolution.weight.dtype)
    right = convolution(noise)
    with _autocast(noise, dtype):
        error = (convolution(noise).to(right.dtype) - right).abs().max()
    return bool(error > _WRONG * right.abs().max())


# Functions of the module, bound to the object: a deep copy of the object gets its own.
def _extract_feat(segmentor: nn.Module, inputs: Tensor):
    with _autocast(inputs, segmentor.autocast_dtype):
        return type(segmentor).extract_feat(segmentor, inputs)


def _head_forward(head: nn.Module, features, *args, **kwargs):
    # Backbones may give out pairs (a map and a class token), heads several predictions at once.
    first = next(leaf for leaf in tree_flatten(features)[0] if isinstance(leaf, Tensor))
    with _autocast(first, head.autocast_dtype):
        logits = type(head).forward(head, features, *args, **kwargs)
    return _widened(logits, head.autocast_dtype)


def _head_predict(head: nn.Module, features, *args, **kwargs):
    # What it does around its forward (PointRend samples features) is no convolution.
    features = _widened(features, head.autocast_dtype)
    return type(head).predict(head, features, *args, **kwargs)


def _widened(tensors, dtype: torch.dtype):
    """Nested lists, tuples and dictionaries with all tensors of a dtype in float32."""

    def widened(leaf):
        return leaf.float() if isinstance(leaf, Tensor) and leaf.dtype == dtype else leaf

    return tree_map(widened, tensors)
