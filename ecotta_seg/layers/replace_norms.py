"""Replaces a source model's BatchNorms by norms with selectable statistics."""

from typing import Optional

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from ..registry import check_keys
from .adaptive_batch_norm import AdaptiveBatchNorm2d
from .calibrated_batch_norm import CalibratedBatchNorm2d

_CALIBRATED = 'calibrated'
# The weight in mode 'calibrated', which is divided by the number of norms.
CALIBRATED_WEIGHT = 40.0


def replace_batch_norms(
    module: nn.Module,
    mode: str = 'source',
    weight: Optional[float] = None,
    through_statistics: bool = False,
    skip: Optional[nn.Module] = None,
    shared: bool = False,
    **options,
) -> list[AdaptiveBatchNorm2d]:
    """Replaces every BatchNorm of maps below ``module`` by an ``AdaptiveBatchNorm2d``.

    A SyncBN is replaced, too; the new layer's frame statistics are those of one process. A
    BatchNorm1d is not replaced, because it normalises vectors and a frame has only one vector. The
    state dict keeps its names and its tensors.

    Args:
        module: Changed in place.
        mode: A mode of ``AdaptiveBatchNorm2d``, or 'calibrated' for ``CalibratedBatchNorm2d``.
        weight: See ``AdaptiveBatchNorm2d``; default 1, or 40 in mode 'calibrated'.
        through_statistics: See ``AdaptiveBatchNorm2d``.
        skip: A submodule that is not changed (the meta networks).
        shared: If True, each of the L layers has the weight ``weight / L``, because the corrections
            of the layers add up along the depth. Mode 'calibrated' always divides the weight so.
        **options: ``tolerance`` and ``momentum`` of ``CalibratedBatchNorm2d``, in that mode.

    Returns:
        The new layers, in the order of ``named_modules``.

    Raises:
        ValueError: An option is unknown or out of range.
    """
    calibrated = mode == _CALIBRATED
    check_keys(f'a norm of mode {mode!r}', options, ['tolerance', 'momentum'] * calibrated)
    places = list(batch_norm_places(module, skip))
    if weight is None:
        weight = CALIBRATED_WEIGHT if calibrated else 1.0
    if calibrated or shared:
        weight /= max(1, len(places))
    replaced = []
    for parent, name, norm in places:
        if calibrated:
            new = CalibratedBatchNorm2d(norm, weight, **options)
        else:
            new = AdaptiveBatchNorm2d(norm, mode, weight, through_statistics)
        new.train(norm.training)
        setattr(parent, name, new)
        replaced.append(new)
    return replaced


def replace_trained_norms(segmentor: nn.Module, options: dict) -> None:
    """Replaces the BatchNorms of a method that trains all parameters.

    In mode 'frame' gradients pass through the frame's statistics.

    Args:
        segmentor: Changed in place.
        options: ``mode`` and ``weight`` of ``replace_batch_norms``.

    Raises:
        ValueError: An option is unknown or out of range.
    """
    check_keys('batch_norm', options, ['mode', 'weight'])
    frame = options.get('mode') == 'frame'
    replace_batch_norms(segmentor, **options, through_statistics=frame)


def batch_norm_places(module: nn.Module, skip: Optional[nn.Module] = None):
    """Yields (parent, name, norm) of each BatchNorm of maps below a module."""
    for name, child in module.named_children():
        if child is skip:
            continue
        of_maps = isinstance(child, _BatchNorm) and not isinstance(child, nn.BatchNorm1d)
        if of_maps and child.track_running_stats:
            yield module, name, child
        else:
            yield from batch_norm_places(child, skip)
