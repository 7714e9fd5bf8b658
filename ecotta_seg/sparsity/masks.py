"""Selects the weights of a segmentor that may be cut, and makes masks by magnitude."""

from collections.abc import Sequence
from typing import Callable

import torch
from torch import Tensor, nn

from ..names.choices import KEPT_LAYERS

# Maps the name of a weight and the weight to its mask: a bool tensor of the same shape, True for
# elements that are kept.
MaskRule = Callable[[str, Tensor], Tensor]


def weights_of(module: nn.Module) -> list[str]:
    """The names of the weights of one layer that may be cut, relative to the layer.

    A layer is a ``Conv2d``, a ``Linear`` or a ``MultiheadAttention``; other modules have none.
    """
    if isinstance(module, (nn.Conv2d, nn.Linear)):
        return ['weight']
    if isinstance(module, nn.MultiheadAttention) and module.in_proj_weight is not None:
        # The inner Linear ``out_proj`` is never called as a module: the attention reads its weight.
        return ['in_proj_weight', 'out_proj.weight']
    return []


def cuttable_weights(
    model: nn.Module, called: Sequence[str], keep: Sequence[str] = KEPT_LAYERS
) -> dict[str, nn.Parameter]:
    """The weights that may be cut.

    Args:
        model: A segmentor.
        called: The names of its layers in the order in which a prediction calls them. Layers that
            are not called (an auxiliary head) stay as they are.
        keep: Kinds of layers that stay dense: ``'first'`` and ``'classifier'`` (the first and the
            last layer of a prediction), ``'depthwise'`` (convolutions with one input channel per
            group).

    Returns:
        The parameters by their names in the state dict, in the order of the calls.

    Raises:
        ValueError: A kind is unknown, or no weight is left.
    """
    unknown = [kind for kind in keep if kind not in KEPT_LAYERS]
    if unknown:
        raise ValueError(
            f'expected kinds of layers among {", ".join(KEPT_LAYERS)}, got {unknown[0]!r}'
        )
    layers = list(dict.fromkeys(called))
    first = layers[:1] if 'first' in keep else []
    last = layers[-1:] if 'classifier' in keep else []
    found: dict[str, nn.Parameter] = {}
    for name in layers:
        layer = model.get_submodule(name)
        depthwise = isinstance(layer, nn.Conv2d) and layer.groups > 1 and layer.weight.shape[1] == 1
        if name in (*first, *last) or (depthwise and 'depthwise' in keep):
            continue
        for weight in weights_of(layer):
            key = f'{name}.{weight}'
            parameter = model.get_parameter(key)
            if not any(parameter is other for other in found.values()):
                found[key] = parameter
    if not found:
        raise ValueError(
            f'the model has no weight to cut: of its {len(layers)} layers all are kept dense '
            f'({", ".join(keep)})'
        )
    return found


def magnitude_mask(weight: Tensor, cut: int) -> Tensor:
    """Cuts the weights of the smallest magnitude.

    Args:
        weight: Any shape, float.
        cut: Number of elements to cut, from 0 to ``weight.numel()``.

    Returns:
        A bool tensor of the same shape, False for exactly ``cut`` elements.

    Raises:
        ValueError: ``cut`` is out of range.
    """
    if not 0 <= cut <= weight.numel():
        raise ValueError(f'expected to cut 0 to {weight.numel()} weights, got {cut}')
    mask = torch.ones(weight.numel(), dtype=torch.bool, device=weight.device)
    mask[weight.detach().abs().flatten().topk(cut, largest=False).indices] = False
    return mask.view(weight.shape)


def takes_two_of_four(weight: Tensor) -> bool:
    """Whether the input channels (dimension 1) come in whole groups of four."""
    return weight.dim() > 1 and weight.shape[1] % 4 == 0


def two_of_four_mask(weight: Tensor) -> Tensor:
    """Keeps the two largest of every four weights along the input channels.

    This is the pattern 2:4 of sparse tensor cores (arXiv 2104.08378): for each output channel and
    each place of the kernel, the input channels 4i to 4i + 3 form a group.

    Args:
        weight: (out, in, ...) float, ``in`` a multiple of four.

    Returns:
        A bool tensor of the same shape, with two True in each group.

    Raises:
        ValueError: The number of input channels is not a multiple of four.
    """
    if not takes_two_of_four(weight):
        raise ValueError(
            'the pattern 2:4 needs a multiple of four input channels, got a weight of shape '
            f'{tuple(weight.shape)}'
        )
    last = weight.detach().abs().movedim(1, -1)
    groups = last.reshape(-1, 4)
    mask = torch.zeros_like(groups, dtype=torch.bool)
    mask.scatter_(1, groups.topk(2, dim=1).indices, True)
    return mask.view(last.shape).movedim(-1, 1).contiguous()
