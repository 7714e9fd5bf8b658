"""The visualizer of a config: a top-level ``vis_backends``, and the packages that backends need."""

from collections.abc import Mapping
from importlib.util import find_spec
from typing import Any

from mmengine.config import Config

from ..names.type_names import type_name

DEFAULT = 'LocalVisBackend'
# The module that each backend of mmengine imports, and the package's name for pip.
_PACKAGES = {
    'TensorboardVisBackend': ('tensorboard', 'tensorboard'),
    'WandbVisBackend': ('wandb', 'wandb'),
    'MLflowVisBackend': ('mlflow', 'mlflow'),
    'ClearMLVisBackend': ('clearml', 'clearml'),
    'NeptuneVisBackend': ('neptune', 'neptune'),
    'DVCLiveVisBackend': ('dvclive', 'dvclive'),
    'AimVisBackend': ('aim', 'aim'),
}


def with_vis_backends(cfg: Config) -> None:
    """Passes a top-level ``vis_backends`` to the visualizer, and checks the backends' packages.

    If a config inherits ``visualizer = dict(vis_backends=vis_backends)`` and sets only
    ``vis_backends``, it changes a variable that mmengine does not read. If a config changes both,
    the backends in ``visualizer`` are used. A backend may be a name: ``'TensorboardVisBackend'``.

    Args:
        cfg: Changed in place.

    Raises:
        ValueError: A backend is neither a dict with ``type`` nor a name, or its package is missing.
    """
    # Reads the stored value, because normal access to a new-style config imports it.
    visualizer = dict.get(cfg._cfg_dict, 'visualizer')
    own = _as_dicts(cfg.get('vis_backends'))
    if own and not isinstance(visualizer, Mapping):
        visualizer = cfg.visualizer = dict(type='SegLocalVisualizer')
    if not isinstance(visualizer, Mapping):
        return
    backends = dict.get(visualizer, 'vis_backends')
    if own:
        theirs = _as_dicts(visualizer.get('vis_backends'))
        backends = own if not theirs or _is_default(theirs) else theirs
        cfg.visualizer.vis_backends = backends
    for backend in backends if isinstance(backends, (list, tuple)) else ():
        kind = dict.get(backend, 'type') if isinstance(backend, dict) else None
        name = type_name(kind) if isinstance(kind, (str, type)) else ''
        module, package = _PACKAGES.get(name, (None, None))
        if module is not None and find_spec(module) is None:
            raise ValueError(
                f'{name} needs {package}, which is not installed: pip install {package}'
            )


def _as_dicts(backends: Any) -> list[dict]:
    if backends is None:
        return []
    found = []
    for backend in backends if isinstance(backends, (list, tuple)) else [backends]:
        backend = dict(type=backend) if isinstance(backend, str) else backend
        if not isinstance(backend, Mapping) or not backend.get('type'):
            raise ValueError(
                'expected vis_backends to be a list such as '
                f"[dict(type='TensorboardVisBackend')], got {backends!r}"
            )
        found.append(dict(backend))
    return found


def _is_default(backends: list[dict]) -> bool:
    return len(backends) == 1 and type_name(backends[0]) == DEFAULT and len(backends[0]) == 1
