"""Detects hooks that change weights, because each score must belong to the reported weights."""

import hashlib
from collections.abc import Mapping
from typing import Any

import torch
from mmengine.hooks import EMAHook, Hook
from mmengine.model import is_model_wrapper
from torch import Tensor, nn

from ..resume.run_identity import tensor_bytes

_SHOWN = 3
# Hook methods that may change weights between the start of a test and its first frame.
_POINTS = ('before_test', 'before_test_epoch', 'before_test_iter')


def settle_averages(runner: Any) -> None:
    """Loads the averaged weights of each ``EMAHook`` into the model, and removes these hooks.

    mmengine's hook loads its averaged weights at the start of the test loop, and the original ones
    at the end. So the source would be copied, and the clear day measured after the stream, with the
    original weights.

    Args:
        runner: The Runner, in ``before_test``.
    """
    averages = [hook for hook in runner.hooks if isinstance(hook, EMAHook)]
    if not averages:
        return
    for hook in averages:
        hook.before_test_epoch(runner)
        runner.logger.info(
            f'{type(hook).__name__}: the model keeps the averaged weights for the whole test'
        )
    # A new list: mmengine iterates over the old one.
    runner._hooks = [hook for hook in runner.hooks if hook not in averages]


def bare_model(runner: Any) -> nn.Module:
    """Returns the Runner's model without its wrapper for several processes."""
    return runner.model.module if is_model_wrapper(runner.model) else runner.model


def weight_digests(model: nn.Module, but: frozenset = frozenset()) -> dict[str, str]:
    """Returns a digest of each weight, by the weight's name.

    Args:
        model: The model.
        but: ``id`` of each tensor to leave out.
    """
    return {
        name: hashlib.blake2b(tensor_bytes(tensor), digest_size=16).hexdigest()
        for name, tensor in model.state_dict(keep_vars=True).items()
        if id(tensor) not in but
    }


def different(kept: Mapping[str, str], current: Mapping[str, str]) -> list[str]:
    """Returns the names in ``kept`` whose digest is missing in ``current`` or differs there."""
    return [name for name, digest in kept.items() if current.get(name) != digest]


def copied_weights(model: nn.Module) -> dict[str, Tensor]:
    """Returns a copy of each weight, by the weight's name."""
    return {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}


@torch.no_grad()
def put_back(model: nn.Module, copied: Mapping[str, Tensor]) -> list[str]:
    """Restores all weights that changed since ``copied_weights`` and kept their shape.

    Returns:
        Names of the restored weights.
    """
    current, found = model.state_dict(), []
    for name, tensor in copied.items():
        there = current.get(name)
        if there is None or there.shape != tensor.shape:
            continue
        if tensor_bytes(there) != tensor_bytes(tensor):
            there.copy_(tensor)
            found.append(name)
    return found


def refuse_changes(runner: Any, names: list[str]) -> None:
    """Stops a test whose model was changed after its source was copied.

    Args:
        runner: The Runner.
        names: Names of the changed weights.

    Raises:
        ValueError: ``names`` is not empty.
    """
    if not names:
        return
    suspects = [type(hook).__name__ for hook in runner.hooks if _is_suspect(hook)]
    more = f' and {len(names) - _SHOWN} more' if len(names) > _SHOWN else ''
    raise ValueError(
        'expected the weights of the source until the first frame, but a hook of the config '
        f'changed {", ".join(names[:_SHOWN])}{more} after the source was copied: give these '
        'weights as the checkpoint and remove the hook'
        + (f' (one of {", ".join(suspects)})' if suspects else '')
    )


def _is_suspect(hook: Hook) -> bool:
    foreign = not type(hook).__module__.startswith(('ecotta_seg.', 'mmengine.', 'mmseg.'))
    return foreign and any(
        getattr(getattr(hook, point), '__func__', None) is not getattr(Hook, point)
        for point in _POINTS
    )
