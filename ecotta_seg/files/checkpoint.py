"""Loads source checkpoints without running code, and refuses checkpoints that do not fit."""

import os
import pickle
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Union

import torch
from torch import nn

from ..names.class_names import names_in_checkpoint
from ..startup.first_look import check_checkpoint
from .torch_file import load_whole

# Heads that prediction does not use may be missing from a model or from a checkpoint.
_OPTIONAL_PREFIXES = ('auxiliary_head.',)
_SHOWN = 3


def read_checkpoint(path: Union[str, Path], trust: bool = False) -> dict:
    """Reads a checkpoint from disk.

    Args:
        path: A ``.pth`` file as mmengine writes it, or a bare state dict.
        trust: Whether to allow pickles that can run code. Use True only for a file whose origin you
            trust.

    Returns:
        The checkpoint with a ``state_dict``, on the CPU.

    Raises:
        ValueError: The file is missing, damaged, holds no state dict, or would run code.
    """
    path = Path(path)
    check_checkpoint(path)
    try:
        with _loading(trust):
            checkpoint = load_whole(path, weights_only=not trust)
    except pickle.UnpicklingError as error:
        # A damaged file raises the same class; only this text means a forbidden class or function.
        if re.search('unsupported (global|class)', str(error), re.IGNORECASE):
            raise ValueError(
                f'{path} was refused: it holds objects that could run code when loaded; if you '
                'trust its origin, pass --trust-checkpoint'
            ) from None
        raise ValueError(_damaged(path, error)) from None
    except Exception as error:  # The exception type depends on where the pickle is damaged.
        raise ValueError(_damaged(path, error)) from None
    if isinstance(checkpoint, Mapping) and 'state_dict' not in checkpoint:
        tensors = checkpoint and all(isinstance(v, torch.Tensor) for v in checkpoint.values())
        checkpoint = {'state_dict': checkpoint} if tensors else checkpoint
    state = checkpoint.get('state_dict') if isinstance(checkpoint, Mapping) else None
    if not isinstance(state, Mapping) or not all(
        isinstance(name, str) and isinstance(value, torch.Tensor) for name, value in state.items()
    ):
        raise ValueError(
            f'{path} holds no model weights: expected a checkpoint with a state_dict of tensors'
        )
    return dict(checkpoint)


def _damaged(path: Path, error: Exception) -> str:
    reason = (str(error).splitlines() or [''])[0].split('. ')[0]
    # The message of an unpickler's KeyError is only a number.
    reason = reason if ' ' in reason else type(error).__name__
    return (
        f'{path} is damaged or not a checkpoint ({reason}): expected a whole .pth file, fetch or '
        'write it again'
    )


class _loading:
    """Allows pickles for one load, if the user trusts the file; see ``force_safe_loading``."""

    _NAME = 'TORCH_FORCE_WEIGHTS_ONLY_LOAD'

    def __init__(self, trust: bool) -> None:
        self.trust = trust

    def __enter__(self) -> None:
        self.before = os.environ.pop(self._NAME, None) if self.trust else None

    def __exit__(self, *_) -> None:
        if self.before is not None:
            os.environ[self._NAME] = self.before


def check_fit(model: nn.Module, state_dict: Mapping, path: Union[str, Path]) -> None:
    """Checks that a checkpoint belongs to this model.

    Raises:
        ValueError: The checkpoint does not fit; the message names missing and unknown parameters
            and wrong shapes.
    """
    expected = model.state_dict()
    found = {name.removeprefix('module.'): value for name, value in state_dict.items()}
    missing, unknown, misshapen = [], [], []
    for name in expected:
        if name.startswith(_OPTIONAL_PREFIXES) or name.endswith('num_batches_tracked'):
            continue
        if name not in found:
            missing.append(name)
        elif expected[name].shape != found[name].shape:
            shapes = f'{tuple(found[name].shape)}, the model needs {tuple(expected[name].shape)}'
            misshapen.append(f'{name} is {shapes}')
    for name in found:
        if name not in expected and not name.startswith((*_OPTIONAL_PREFIXES, 'data_preprocessor')):
            unknown.append(name)
    problems = []
    for what, names in (('misses', missing), ('has unknown', unknown), ('differs:', misshapen)):
        if names:
            more = f' and {len(names) - _SHOWN} more' if len(names) > _SHOWN else ''
            problems.append(f'{what} {", ".join(names[:_SHOWN])}{more}')
    if problems:
        raise ValueError(
            f'the checkpoint {path} is not one of this model: it {"; it ".join(problems)}. Use '
            'the config that it was trained with'
        )


def load_source(model: nn.Module, path: Union[str, Path], trust: bool = False) -> dict:
    """Loads source weights into a segmentor; if they do not fit, the segmentor stays unchanged.

    The function also sets ``model.class_names`` to the class names in the checkpoint, or to None.

    Returns:
        The checkpoint's ``meta``; empty if it has none.

    Raises:
        ValueError: See ``read_checkpoint`` and ``check_fit``.
    """
    checkpoint = read_checkpoint(path, trust)
    state = {k.removeprefix('module.'): v for k, v in checkpoint['state_dict'].items()}
    check_fit(model, state, path)
    model.load_state_dict(state, strict=False)
    meta = dict(checkpoint.get('meta') or {})
    model.class_names = names_in_checkpoint(meta)
    return meta
