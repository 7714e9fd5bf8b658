"""Identifies a run by code, config, data and weights: only the same run may resume from a state.

Two runs with the same identity give the same results. ``differences`` describes how two identities
differ.
"""

import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import mmengine
import mmseg
import torch
from mmengine.dist import get_rank, get_world_size
from torch import Tensor, nn

from ..config.config import RESULT_KEYS
from ..datasets.inner_datasets import inner_datasets
from ..names.type_names import type_name
from ..version import __version__

# Hooks that do not change results: they report, or decide whether a bad frame stops the run. A run
# that stopped at a bad frame can resume in tolerant mode.
_HOOKS_LEFT_OUT = (
    'BestAndWorstHook',
    'FrameAreasHook',
    'FrameCheckHook',
    'LiveViewHook',
    'MasksHook',
    'PanelHook',
    'ReportHook',
    'RerunHook',
    'ResultsHook',
    'StreamProgressHook',
    'StreamStateHook',
)
_LOADER_KEYS_LEFT_OUT = (
    *('num_workers', 'persistent_workers', 'prefetch_factor', 'pin_memory'),
    # Only decides whether the run stops; the entry of the data set covers its labels.
    'missing_labels',
)
# ResumableTestLoop and mmengine's TestLoop process the same frames.
_LOOP_KEYS_LEFT_OUT = ('resume', 'type')
_SHOWN = 4


def run_identity(runner: Any, files: Sequence[str]) -> dict:
    """Returns the identity of a Runner's test, before its first frame.

    Args:
        runner: The Runner.
        files: The ``data_files`` of its data set.

    Returns:
        A flat dict from names such as ``'config adaptation.optimizer.lr'`` to text.
    """
    identity = {
        **{f'code {name}': version for name, version in code_versions().items()},
        'processes': f'rank {get_rank()} of {get_world_size()}',
        'device': next(runner.model.parameters()).device.type,
        'weights': _digest(runner.model.state_dict()),
        'source': source_digest(runner.model),
        'data set': _names_digest(files)[:16],
        'data set size': str(len(runner.test_dataloader.dataset)),
    }
    for key in RESULT_KEYS:
        value = runner.cfg.get(key)
        if key == 'test_cfg':
            value = {k: v for k, v in (value or {}).items() if k not in _LOOP_KEYS_LEFT_OUT}
        if key == 'custom_hooks':
            hooks = [dict(h) for h in value or () if isinstance(h, Mapping)]
            value = [h for h in hooks if type_name(h) not in _HOOKS_LEFT_OUT]
        for name, text in _leaves(value, key):
            if name.rpartition('.')[2] not in _LOADER_KEYS_LEFT_OUT:
                identity[f'config {name}'] = text
    return identity


def model_identity(model: nn.Module, settings: Mapping[str, Any]) -> dict:
    """Returns the identity of a model without a Runner, before its first frame.

    Args:
        model: The source model.
        settings: All settings that affect the predictions, as nested containers: of the method, of
            the preparation of frames, and so on.

    Returns:
        A flat dict from names such as ``'config adaptation.optimizer.lr'`` to text.
    """
    identity = {f'code {name}': version for name, version in code_versions().items()}
    identity['weights'] = _digest(model.state_dict())
    for key, value in settings.items():
        identity.update({f'config {name}': text for name, text in _leaves(value, key)})
    return identity


def code_versions() -> dict[str, str]:
    """Returns the versions of this package (with a digest of its files) and of the libraries."""
    return {
        'ecotta_seg': f'{__version__} ({_code_digest()[:12]})',
        'torch': torch.__version__,
        'mmengine': mmengine.__version__,
        'mmseg': mmseg.__version__,
    }


def differences(saved: Mapping, current: Mapping, allowed: Sequence[str] = ()) -> list[str]:
    """Describes each difference between two identities: ``'config rounds: was 3, is 10'``.

    Args:
        saved: The identity of one run.
        current: The identity of another run.
        allowed: Entries may differ if their names start with one of these.
    """
    found = []
    for name in sorted(saved.keys() | current.keys()):
        if saved.get(name) != current.get(name) and not name.startswith(tuple(allowed)):
            found.append(f'{name}: was {saved.get(name, "not set")}, is {current.get(name)}')
    if len(found) > _SHOWN:
        found[_SHOWN:] = [f'and {len(found) - _SHOWN} more']
    return found


def _leaves(value: Any, name: str) -> Iterator[tuple[str, str]]:
    if isinstance(value, Mapping):
        for key in value:
            yield from _leaves(value[key], f'{name}.{key}')
    elif isinstance(value, (list, tuple)):
        if all(isinstance(item, (str, int, float, bool, type(None))) for item in value):
            yield name, repr(list(value))
            return
        for index, item in enumerate(value):
            yield from _leaves(item, f'{name}[{index}]')
    elif isinstance(value, (str, int, float, bool, type(None))):
        yield name, repr(value)
    elif isinstance(value, type):
        # The same text as the class name in a text config.
        yield name, repr(type_name(value))
    else:
        # An object's repr may contain its address, which differs between processes.
        yield name, type(value).__name__


@cache
def _code_digest() -> str:
    package = Path(__file__).resolve().parents[1]
    digest = hashlib.sha256()
    for path in sorted(package.rglob('*.py')):
        digest.update(f'{path.relative_to(package).as_posix()}\0'.encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()


def source_digest(model: nn.Module) -> str:
    """Returns the first digits of the SHA-256 of a model's weights, without the meta networks.

    Before its first frame, a method has the same digest as its source model, because the random
    meta networks are left out.
    """
    state = model.state_dict()
    return _digest({k: v for k, v in state.items() if '.meta_networks.' not in k})


def _digest(state: Mapping[str, torch.Tensor]) -> str:
    digest = hashlib.sha256()
    for name, tensor in sorted(state.items()):
        digest.update(f'{name} {tensor.dtype} {tuple(tensor.shape)}\0'.encode())
        digest.update(tensor_bytes(tensor))
    return digest.hexdigest()[:16]


def data_files(dataset: Any) -> list[str]:
    """Returns the paths of a data set's images, labels and videos, in its order, each once.

    The list is empty if the data set gives no paths.
    """
    paths: dict[str, None] = {}
    for inner in inner_datasets(dataset):
        for index in range(len(inner) if hasattr(inner, 'get_data_info') else 0):
            info = inner.get_data_info(index)
            found = (info.get(key) for key in ('img_path', 'seg_map_path', 'video'))
            paths.update(dict.fromkeys(str(path) for path in found if path))
    return list(paths)


def file_sizes(paths: Sequence[str]) -> torch.Tensor:
    """Returns (N,) int64: the size of each file in bytes, -1 if the file is missing."""
    sizes = [os.path.getsize(path) if os.path.isfile(path) else -1 for path in paths]
    return torch.tensor(sizes, dtype=torch.int64)


def changed_files(paths: Sequence[str], saved: torch.Tensor, current: torch.Tensor) -> list[str]:
    """Returns the ``paths`` whose sizes differ; ``saved`` and ``current`` are in their order."""
    return [paths[index] for index in (saved != current).nonzero().flatten().tolist()]


def tensor_bytes(tensor: Tensor) -> memoryview:
    """Returns the bytes of a tensor's values, for any shape, dtype and device."""
    content = tensor.detach().cpu().contiguous().reshape(-1)
    return memoryview(content.view(torch.uint8).numpy() if content.numel() else b'')


def _names_digest(files: Sequence[str]) -> str:
    digest = hashlib.sha256()
    for path in files:
        digest.update(f'{path}\0'.encode('utf-8', 'surrogateescape'))
    return digest.hexdigest()
