"""Folds norms into the convolutions before them: y = (w s) * x + (b - m) s + t."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils.fusion import fuse_conv_bn_weights
from torch.overrides import TorchFunctionMode


class _Uses(TorchFunctionMode):
    """Counts how many torch functions compute a tensor from each tracked tensor."""

    def __init__(self) -> None:
        super().__init__()
        # The tensors are kept alive, so that no new tensor gets the same id.
        self.tracked: dict[int, Tensor] = {}
        self.counts: dict[int, int] = {}

    def track(self, tensor: Tensor) -> None:
        self.tracked[id(tensor)] = tensor
        self.counts[id(tensor)] = 0

    def __torch_function__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        if _has_tensor(result):
            for tensor in _tensors((args, kwargs or {})):
                if id(tensor) in self.counts:
                    self.counts[id(tensor)] += 1
        return result


def _tensors(value: Any):
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _tensors(item)
    elif isinstance(value, dict):
        yield from _tensors(list(value.values()))


def _has_tensor(value: Any) -> bool:
    return next(_tensors(value), None) is not None


@torch.no_grad()
def fold_norms(network: nn.Module, sample: Tensor) -> int:
    """Folds each BatchNorm with constant statistics into the convolution before it.

    A BatchNorm is folded only if nothing else reads the output of the convolution. The function
    runs the network to find which norm follows which convolution, so it works for any architecture.

    Args:
        network: The network, in evaluation mode; changed in place.
        sample: The input on which the network runs.

    Returns:
        The number of folded norms.
    """
    uses, made_by = _Uses(), {}
    before: dict[nn.Module, set] = {}
    after: dict[nn.Module, set] = {}

    def convolved(conv: nn.Module, inputs: tuple, output: Tensor) -> None:
        made_by[id(output)] = conv
        uses.track(output)

    def normalised(norm: nn.Module, inputs: tuple, output: Tensor) -> None:
        conv = made_by.get(id(inputs[0]))
        before.setdefault(norm, set()).add(conv)
        if conv is not None:
            after.setdefault(conv, set()).add((id(inputs[0]), norm))

    hooks = []
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            hooks.append(module.register_forward_hook(convolved))
        elif isinstance(module, _BatchNorm) and module.track_running_stats:
            hooks.append(module.register_forward_hook(normalised))
    try:
        with uses:
            network(sample)
    finally:
        for hook in hooks:
            hook.remove()
    runs: dict[nn.Module, list[int]] = {}
    for tensor, conv in made_by.items():
        runs.setdefault(conv, []).append(tensor)
    pairs = {}
    for norm, convs in before.items():
        (conv,) = convs if len(convs) == 1 else (None,)
        if conv is None or {n for _, n in after[conv]} != {norm}:
            continue
        read = {tensor for tensor, _ in after[conv]}
        if read == set(runs[conv]) and all(uses.counts[tensor] == 1 for tensor in read):
            pairs[norm] = conv
    for norm, conv in pairs.items():
        conv.weight, conv.bias = fuse_conv_bn_weights(
            conv.weight, conv.bias, norm.running_mean, norm.running_var, norm.eps,
            norm.weight, norm.bias,
        )  # fmt: skip
        conv.requires_grad_(False)
    for parent in list(network.modules()):
        for name, child in parent.named_children():
            if child in pairs:
                setattr(parent, name, nn.Identity())
    return len(pairs)
