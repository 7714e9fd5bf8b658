"""Runs only the network's forward pass under ``torch.autocast``.

Autocast runs convolutions and matrix products on bfloat16 copies of their inputs and weights, and
autograd keeps those copies. The parameters, gradients and the optimizer stay float32. The logits
leave the network as float32 before they are resized to the frame, so everything computed from them
is float32, too. bfloat16 has float32's range, so gradients need no scaling.
"""

from contextlib import AbstractContextManager, nullcontext
from types import MethodType
from typing import Optional

import torch
from mmseg.models.decode_heads.cascade_decode_head import BaseCascadeDecodeHead
from mmseg.models.decode_heads.decode_head import BaseDecodeHead
from torch import Tensor, nn
from torch.utils._pytree import tree_flatten, tree_map

PRECISIONS = {'bf16': torch.bfloat16}
# A convolution is wrong if an error exceeds this share of the largest correct value. Rounding
# errors stay below 0.01.
_WRONG = 0.1
# mmseg's own ``predict`` methods, which only pass the features to ``forward``.
_STOCK_PREDICTS = (BaseDecodeHead.predict, BaseCascadeDecodeHead.predict)


def autocast_dtype(name: Optional[str]) -> Optional[torch.dtype]:
    """The dtype that a config's ``autocast`` option names; None if the option is None.

    Raises:
        ValueError: The name is unknown.
    """
    if name is None:
        return None
    if not isinstance(name, str) or name not in PRECISIONS:
        raise ValueError(f'expected autocast to be one of {[*PRECISIONS]} or None, got {name!r}')
    return PRECISIONS[name]


def run_under_autocast(segmentor: nn.Module, dtype: torch.dtype) -> None:
    """Makes a segmentor's network run under autocast in every later forward pass.

    The segmentor is called as before; only its numbers differ slightly. The function replaces
    methods of the objects, because a wrapper around the modules would rename the keys of a
    checkpoint.

    Args:
        segmentor: An mmseg ``EncoderDecoder``; changed in place.
        dtype: The dtype of convolutions and matrix products.
    """
    segmentor.autocast_dtype = dtype
    segmentor.extract_feat = MethodType(_extract_feat, segmentor)
    heads = segmentor.decode_head
    for head in heads if isinstance(heads, nn.ModuleList) else [heads]:
        head.autocast_dtype = dtype
        head.forward = MethodType(_head_forward, head)
        if type(head).predict not in _STOCK_PREDICTS:
            head.predict = MethodType(_head_predict, head)


def leave_autocast(segmentor: nn.Module) -> None:
    """Undoes ``run_under_autocast``.

    Args:
        segmentor: Changed in place.
    """
    for module in segmentor.modules():
        if vars(module).pop('autocast_dtype', None) is not None:
            for name in ('extract_feat', 'forward', 'predict'):
                vars(module).pop(name, None)


def as_in_network(segmentor: nn.Module, x: Tensor) -> AbstractContextManager:
    """Context manager with the precision of a segmentor's network, to run one of its layers alone.

    Args:
        segmentor: A segmentor, with or without ``run_under_autocast``.
        x: A tensor on the segmentor's device.
    """
    dtype = getattr(segmentor, 'autocast_dtype', None)
    return nullcontext() if dtype is None else _autocast(x, dtype)


def _autocast(x: Tensor, dtype: torch.dtype) -> torch.autocast:
    # Cast weights are not cached: a forward pass uses each weight once, and an update may change
    # weights in place between two passes.
    return torch.autocast(x.device.type, dtype=dtype, cache_enabled=False)


def wrong_convolutions(segmentor: nn.Module, dtype: torch.dtype) -> list[str]:
    """Finds convolutions whose results under autocast are wrong on this machine, beyond rounding.

    torch 2.13 on processors with AMX returns unrelated values if a convolution reduces 8 to 24
    channels patch by patch (kernel size equal to stride, 4 or more). The function tests every
    convolution with kernel size equal to stride on a small noise input, on CPUs only.

    Args:
        segmentor: Any module.
        dtype: The dtype of the convolutions under autocast.

    Returns:
        Names of modules; empty if all convolutions are correct.
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


# Module-level functions bound to the object, so that a deep copy of the object gets its own.
def _extract_feat(segmentor: nn.Module, inputs: Tensor):
    with _autocast(inputs, segmentor.autocast_dtype):
        return type(segmentor).extract_feat(segmentor, inputs)


def _head_forward(head: nn.Module, features, *args, **kwargs):
    # Backbones may return pairs (a map and a class token). Heads may return several predictions.
    first = next(leaf for leaf in tree_flatten(features)[0] if isinstance(leaf, Tensor))
    with _autocast(first, head.autocast_dtype):
        logits = type(head).forward(head, features, *args, **kwargs)
    return _widened(logits, head.autocast_dtype)


def _head_predict(head: nn.Module, features, *args, **kwargs):
    # The head's code outside ``forward`` (PointRend samples features) needs float32 features.
    features = _widened(features, head.autocast_dtype)
    return type(head).predict(head, features, *args, **kwargs)


def _widened(tensors, dtype: torch.dtype):
    """Converts all tensors of a dtype in nested lists, tuples and dictionaries to float32."""

    def widened(leaf):
        return leaf.float() if isinstance(leaf, Tensor) and leaf.dtype == dtype else leaf

    return tree_map(widened, tensors)
