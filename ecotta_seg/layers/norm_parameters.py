"""The parameters that Tent and its followers update: scale and shift of a model's norms."""

from collections.abc import Sequence

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from .adaptive_batch_norm import AdaptiveBatchNorm2d
from .replace_norms import replace_batch_norms

_NORMS = (AdaptiveBatchNorm2d, _BatchNorm, nn.LayerNorm, nn.GroupNorm)


def is_norm(module: nn.Module) -> bool:
    """Whether a module is a norm with scale and shift."""
    return isinstance(module, _NORMS) and module.weight is not None


def release_norm_parameters(segmentor: nn.Module, skip: Sequence[str] = ()) -> None:
    """Freezes a segmentor except for the affine parameters of its norms.

    Every BatchNorm normalises by the frame's statistics, with gradients through them, as in
    Tent's (arXiv 2006.10726) training mode. In a model without BatchNorm (SegFormer's encoder) the
    LayerNorms' parameters are updated, as is usual in ports to transformers.

    Args:
        segmentor: An mmseg ``EncoderDecoder``, changed in place.
        skip: Names of modules whose norms stay frozen as well, such as ``'backbone.layer4'``.
    """
    segmentor.requires_grad_(False)
    replace_batch_norms(segmentor, 'frame', through_statistics=True)
    prefixes = tuple(f'{name}.' for name in skip)
    for name, module in segmentor.named_modules():
        if is_norm(module):
            if not f'{name}.'.startswith(prefixes):
                module.requires_grad_(True)
    # The prediction does not use the auxiliary head.
    if getattr(segmentor, 'auxiliary_head', None) is not None:
        segmentor.auxiliary_head.requires_grad_(False)
