"""Copies modules to torch's ``meta`` device and measures stock inference there."""

from collections.abc import Iterable
from copy import deepcopy

import torch
from torch import Tensor, nn

from ...inference.windows import slides
from ...layers.adaptive_batch_norm import AdaptiveBatchNorm2d
from .. import StorageMeter
from .known_results import KnownResults


def without_data(
    module: nn.Module, tensors: Iterable[Tensor] = (), left_out: Iterable[object] = ()
) -> nn.Module:
    """Copies a module to the meta device without copying any tensor's data.

    Args:
        module: The module to copy. Its parameters and buffers are copied without data.
        tensors: Other tensors of the module, to be copied without data, too.
        left_out: Objects that the copy replaces by None.
    """
    memo: dict[int, object] = {}
    for tensor in (*module.parameters(), *module.buffers(), *tensors):
        if id(tensor) not in memo:
            empty = torch.empty_like(tensor, device='meta')
            if isinstance(tensor, nn.Parameter):
                empty = nn.Parameter(empty, tensor.requires_grad)
            memo[id(tensor)] = empty
    memo.update({id(other): None for other in left_out if other is not None})
    return deepcopy(module, memo)


def stock_inference_peak(
    segmentor: nn.Module, inputs: Tensor, metas: list[dict], known: KnownResults
) -> int:
    """Peak of stock inference in bytes: no meta networks, and the source's own statistics.

    Args:
        segmentor: A segmentor without data; not changed.
        inputs: (N, 3, H, W) without data.
        metas: Metainfo of the N samples.
        known: A cache of operators' results.
    """
    segmentor = without_data(segmentor)
    if hasattr(segmentor.backbone, 'meta_networks'):
        segmentor.backbone = segmentor.backbone.backbone
    for module in segmentor.modules():
        if isinstance(module, AdaptiveBatchNorm2d):
            module.mode, module.through_statistics = 'source', False
    # mmseg writes into the metainfo of sliding windows.
    metas = [dict(meta) for meta in metas]
    run = segmentor.slide_inference if slides(segmentor) else segmentor.encode_decode
    with torch.no_grad(), known, StorageMeter(device='meta') as meter:
        run(inputs, metas)
    return meter.peak_bytes
