"""Keeps the source model next to a method that changes it, with little memory."""

from copy import deepcopy

import torch
from torch import nn

from .base import AdaptationMethod
from .source import SourceModel


def shared_source(segmentor: nn.Module) -> SourceModel:
    """Builds a source model that shares its parameters with a segmentor.

    Args:
        segmentor: The segmentor, before a method is built around it; not changed.

    Returns:
        The source model. Its modules and buffers are copies; its parameters are the segmentor's.
    """
    memo = {id(p): p for p in segmentor.parameters()}
    wanted = [p.requires_grad for p in segmentor.parameters()]
    source = SourceModel(deepcopy(segmentor, memo)).eval()
    # Both share the tensors; restore ``requires_grad``, by which the method selects parameters.
    for parameter, grad in zip(segmentor.parameters(), wanted):
        parameter.requires_grad_(grad)
    return source


@torch.no_grad()
def part_from(source: SourceModel, method: AdaptationMethod) -> int:
    """Gives a shared source its own copies of the parameters that a method changes.

    Args:
        source: The result of ``shared_source``; changed in place.
        method: The method that was built around the segmentor, before its first frame.

    Returns:
        The number of copied bytes.
    """
    changed = {id(tensor) for tensor in method.learned_tensors().values()}
    copied: dict[int, nn.Parameter] = {}
    for module in source.modules():
        for name, parameter in list(module._parameters.items()):
            if parameter is None or id(parameter) not in changed:
                continue
            # Two modules that share a parameter share the copy.
            if id(parameter) not in copied:
                copied[id(parameter)] = nn.Parameter(parameter.detach().clone(), False)
            module._parameters[name] = copied[id(parameter)]
    return sum(p.numel() * p.element_size() for p in copied.values())
