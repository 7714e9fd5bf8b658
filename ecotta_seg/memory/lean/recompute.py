"""Runs modules so that they keep only their inputs and run again in the backward pass."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_flatten
from torch.utils.checkpoint import checkpoint

from .mode import LeanAutograd


def _run_again(module: nn.Module, forward: Callable, *args, **kwargs):
    """Runs a module so that the graph keeps only the arguments."""
    tensors = [leaf for leaf in tree_flatten((args, kwargs))[0] if isinstance(leaf, Tensor)]
    if not torch.is_grad_enabled() or not _learns(module, tensors):
        return forward(*args, **kwargs)

    def run(*args, **kwargs):
        with LeanAutograd():
            return forward(*args, **kwargs)

    if any(tensor.is_meta for tensor in tensors):
        # torch 2.1 looks up the device module of tensors among the positional arguments; the meta
        # device has no such module.
        return checkpoint(
            lambda held: run(*held[0], **held[1]), (args, kwargs), use_reentrant=False
        )
    return checkpoint(run, *args, use_reentrant=False, **kwargs)


def _learns(module: nn.Module, inputs: Iterable[Tensor]) -> bool:
    """Whether a gradient flows through a module."""
    return any(t.requires_grad for t in inputs) or any(p.requires_grad for p in module.parameters())


@contextmanager
def recomputing(modules: Iterable[nn.Module]) -> Iterator[None]:
    """Context manager in which these modules keep only their inputs for the backward pass.

    The backward runs such a module again, under ``LeanAutograd``, when a gradient reaches the
    module's output. This takes the time of one more forward of the module. The gradients equal
    those of the plain forward, bit for bit, if the module is deterministic.

    Args:
        modules: Modules that take and return tensors, in any nesting. No module may lie inside
            another.

    Raises:
        RuntimeError: Raised by torch in the backward if a layer has overwritten a module's input.
    """
    modules = list(modules)
    for module in modules:
        # Set on the instance, because a wrapper module would rename the parameters.
        module.forward = partial(_run_again, module, module.forward)
    try:
        yield
    finally:
        for module in modules:
            del module.forward
