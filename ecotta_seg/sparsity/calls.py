"""Finds the modules that a prediction calls, and their inputs and outputs."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ..datasets.clear_frames import ClearFrames
from ..inference.fixed_draws import fixed_draws
from ..inference.windows import first_window
from .masks import weights_of

# The most layers of a block, so that a block is a residual block, a transformer layer or a part of
# a head.
LARGEST_BLOCK = 6


class _Stop(Exception):
    """Ends a forward pass after the module of interest."""


class Call(NamedTuple):
    """One call of a module; all tensors are copies.

    Attributes:
        args: Positional arguments.
        kwargs: Keyword arguments.
        output: Output of the module.
    """

    args: tuple
    kwargs: dict[str, Any]
    output: Any


def windows_of(model: nn.Module, frames: ClearFrames) -> ClearFrames:
    """Crops frames to the input size of the network in a prediction.

    Args:
        model: A segmentor.
        frames: Inputs (1, C, H, W) and metainfo.

    Returns:
        For a segmentor with sliding windows, the first window of each frame; else the whole frames.
    """
    found = []
    for inputs, metas in frames:
        window = first_window(model, inputs, metas)
        # mmseg takes a torch.Size as the size of a window.
        found.append((window, [dict(metas[0], img_shape=window.shape[2:])]))
    return found


def predict(model: nn.Module, frame: tuple[Tensor, list[dict]]) -> Tensor:
    """Predicts logits (1, classes, H, W); random numbers are the same for each frame."""
    inputs, metas = frame
    with fixed_draws(inputs.device):
        return model.encode_decode(inputs, metas)


@torch.no_grad()
def called_modules(model: nn.Module, frame: tuple[Tensor, list[dict]]) -> dict[str, list[Any]]:
    """Runs a prediction and returns the outputs of all called modules.

    Returns:
        For the name of each called module, a list of its outputs, one for each call. The modules
        are in the order in which they are first called.
    """
    found: dict[str, list[Any]] = {}
    names = {module: name for name, module in model.named_modules() if name}

    def begin(module: nn.Module, _) -> None:
        found.setdefault(names[module], [])

    def end(module: nn.Module, _, output: Any) -> None:
        found[names[module]].append(output)

    handles = [module.register_forward_pre_hook(begin) for module in names]
    handles += [module.register_forward_hook(end) for module in names]
    try:
        predict(model, frame)
    finally:
        for handle in handles:
            handle.remove()
    return found


def called_layers(model: nn.Module, frame: tuple[Tensor, list[dict]]) -> list[str]:
    """The names of the layers with weights, in the order in which a prediction calls them."""
    called = called_modules(model, frame)
    return [name for name in called if weights_of(model.get_submodule(name))]


def blocks_of(
    model: nn.Module, frame: tuple[Tensor, list[dict]], weights: Sequence[str]
) -> dict[str, list[str]]:
    """Splits a segmentor into blocks that can run alone.

    A block is a module that a prediction calls exactly once, that returns one tensor and that has
    at most ``LARGEST_BLOCK`` layers. If a module and a module inside it both fit, the block is the
    outer one. This works for any architecture.

    Args:
        model: A segmentor.
        frame: Inputs and metainfo.
        weights: Names of the weights that are to be cut.

    Returns:
        For the name of each block with such a weight, the names of its weights to cut. The blocks
        are in the order of the calls.
    """
    called = called_modules(model, frame)
    blocks: dict[str, list[str]] = {}
    for name, outputs in called.items():
        if any(name.startswith(f'{block}.') for block in blocks):
            continue
        inside = [weight for weight in weights if weight.startswith(f'{name}.')]
        module = model.get_submodule(name)
        layers = sum(bool(weights_of(part)) for part in module.modules())
        once = len(outputs) == 1 and isinstance(outputs[0], Tensor)
        if inside and once and layers <= LARGEST_BLOCK:
            blocks[name] = inside
    return blocks


@torch.no_grad()
def calls_of(model: nn.Module, name: str, frames: ClearFrames) -> list[Call]:
    """Records one call of a module for each frame; each prediction stops after this call.

    Args:
        model: A segmentor.
        name: A module that a prediction calls.
        frames: Inputs and metainfo.
    """
    calls: list[Call] = []
    before: list[tuple[tuple, dict]] = []

    def keep_inputs(_, args: tuple, kwargs: dict) -> None:
        # Copies, because a block may change its input in place.
        before.append((copied(args), copied(kwargs)))

    def keep_output(_, args: tuple, output: Any) -> None:
        calls.append(Call(*before.pop(), copied(output)))
        raise _Stop

    module = model.get_submodule(name)
    handles = [
        module.register_forward_pre_hook(keep_inputs, with_kwargs=True),
        module.register_forward_hook(keep_output),
    ]
    try:
        for frame in frames:
            try:
                predict(model, frame)
            except _Stop:
                pass
    finally:
        for handle in handles:
            handle.remove()
    return calls


def copied(value: Any) -> Any:
    """A copy of the tensors in tuples, lists and dicts; other values stay."""
    if isinstance(value, Tensor):
        return value.detach().clone()
    if isinstance(value, (tuple, list)) and type(value) in (tuple, list):
        return type(value)(copied(one) for one in value)
    if isinstance(value, dict):
        return {key: copied(one) for key, one in value.items()}
    return value
