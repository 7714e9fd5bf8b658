"""Lets mmengine find configs by name: ``ecotta_seg::demo.py``, and ``mmseg::`` on either stack.

mmengine finds the configs of a package with an internal table, which contains neither this package
nor the distributions of the ``onedl-*`` forks. mmengine reads the bases of a config before the
imports of the config run. ``ecotta_seg.pth`` therefore runs this file at each start of Python, so
the file imports almost nothing.
"""

from __future__ import annotations

import os
import sys

_SCOPE = 'ecotta_seg::'
_FORKS = {'mmseg': 'onedl-mmsegmentation', 'mmdet': 'onedl-mmdetection'}
_PACKAGE = os.path.dirname(os.path.dirname(os.path.realpath(__file__)))


def package_folder(name: str) -> str:
    """Returns the folder ``configs`` or ``tools`` of the installed package, or of the clone."""
    installed = os.path.join(_PACKAGE, '.mim', name)
    return installed if os.path.isdir(installed) else os.path.join(os.path.dirname(_PACKAGE), name)


def own_config(name: str) -> str | None:
    """Returns the path of a config of this package.

    Args:
        name: A name such as ``'ecotta_seg::acdc_ecotta.py'``.

    Returns:
        The path; None if the name belongs to another package or is a path.

    Raises:
        ValueError: This package does not have the config.
    """
    if not name.startswith(_SCOPE):
        return None
    folder = package_folder('configs')
    path = os.path.join(folder, name[len(_SCOPE) :])
    if not os.path.isfile(path):
        known = ', '.join(sorted(file for file in os.listdir(folder) if file.endswith('.py')))
        raise ValueError(f'expected a config of ecotta_seg, got {name}: there are {known}')
    return path


def _add_forks(module) -> None:
    """Puts a fork's name into mmengine's table if the original package is not installed."""
    table = module.MODULE2PACKAGE
    for name, fork in _FORKS.items():
        if not _is_installed(table.get(name, name)) and _is_installed(fork):
            table[name] = fork


def _is_installed(name: str) -> bool:
    from importlib.metadata import PackageNotFoundError, distribution

    try:
        distribution(name)
    except PackageNotFoundError:
        return False
    return True


def _find_bases(module) -> None:
    """Makes ``_base_`` accept the names of this package, with or without a folder.

    The base gets no separate scope, because its types are mmseg's.
    """
    original = module.Config._get_cfg_path

    def get_cfg_path(cfg_path: str, filename: str) -> tuple:
        own = own_config(cfg_path)
        return original(cfg_path, filename) if own is None else (own, None)

    module.Config._get_cfg_path = staticmethod(get_cfg_path)


def _find_whole(module) -> None:
    """Makes ``mmengine.hub.get_config`` accept the names of this package."""
    original = module.get_config

    def get_config(cfg_path: str, pretrained: bool = False):
        own = own_config(cfg_path)
        if own is None:
            return original(cfg_path, pretrained)
        if pretrained:
            raise ValueError(
                f'ecotta_seg publishes no weights for {cfg_path}: leave out pretrained, and give '
                "a checkpoint of the config's model"
            )
        return module.Config.fromfile(own)

    module.get_config = get_config
    hub = sys.modules.get('mmengine.hub')
    if hasattr(hub, 'get_config'):
        hub.get_config = get_config


_BRIDGES = {
    'mmengine.config.utils': _add_forks,
    'mmengine.config.config': _find_bases,
    'mmengine.hub.hub': _find_whole,
}
_DONE = '_knows_ecotta_seg'


def _bridge(module) -> None:
    if not getattr(module, _DONE, False):
        _BRIDGES[module.__name__](module)
        setattr(module, _DONE, True)


class _AfterImport:
    """An import finder that patches mmengine's modules as soon as they are imported."""

    def find_spec(self, name: str, path=None, target=None):
        """The spec of the other finders; the patch runs after the module's execution."""
        if name not in _BRIDGES:
            return None
        others = (finder for finder in sys.meta_path if not isinstance(finder, _AfterImport))
        found = (finder.find_spec(name, path, target) for finder in others)
        spec = next((spec for spec in found if spec is not None), None)
        if spec is not None and spec.loader is not None:
            spec.loader.exec_module = _followed(spec.loader.exec_module)
        return spec


def _followed(execute):
    def exec_module(module) -> None:
        execute(module)
        _bridge(module)

    return exec_module


def bridge_model_zoo() -> None:
    """Registers ``mmseg::`` and ``ecotta_seg::`` with mmengine, now or at mmengine's import."""
    for name in _BRIDGES:
        if name in sys.modules:
            _bridge(sys.modules[name])
    if not any(type(finder).__name__ == '_AfterImport' for finder in sys.meta_path):
        sys.meta_path.insert(0, _AfterImport())


if __name__ == 'ecotta_seg.pth':
    bridge_model_zoo()
