"""Checks a config: the version of mmseg, the required keys, packages and the data folder."""

import os
from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from typing import Any

from mmengine.config import Config

from .environment import variables_of

# Keys of mmseg 0.x, and the keys that replace them.
_GIVEN_UP = {
    'data': 'test_dataloader',
    'runner': 'train_cfg',
    'optimizer_config': 'optim_wrapper',
    'lr_config': 'param_scheduler',
    'checkpoint_config': 'default_hooks',
    'log_config': 'default_hooks',
    'evaluation': 'val_evaluator',
    'dist_params': 'env_cfg',
}
# Other OpenMMLab packages with models, and their names for pip.
_SIBLINGS = {'mmpretrain': 'mmpretrain', 'mmdet': 'mmdet'}
# Names in mmseg's own registry that need one of these packages.
_PACKAGE_OF = {'MaskFormerHead': 'mmdet', 'Mask2FormerHead': 'mmdet'}
# Pipeline steps that mmseg 1.x does not have; its MultiScaleFlipAug has other options.
_OLD_STEPS = ('Collect', 'DefaultFormatBundle', 'ImageToTensor')


def check_version(cfg: Config, path) -> None:
    """Refuses a config of mmseg 0.x.

    Raises:
        ValueError: The config has several keys that mmseg 1.x has replaced, without the new keys,
            or options or pipeline steps that only mmseg 0.x has.
    """
    given_up = [name for name, new in _GIVEN_UP.items() if name in cfg and new not in cfg]
    certain = [f'data.{key}' for key in ('samples_per_gpu',) if key in (cfg.get('data') or {})]
    certain += sorted(set(_old_steps(cfg._cfg_dict)))
    if len(given_up) > 1 or certain:
        given_up += certain
        raise ValueError(
            f'{path} is a config of mmseg 0.x ({", ".join(given_up)}): expected a config of '
            'mmseg 1.x (test_dataloader, train_cfg, ...); take the config of the same name from '
            "its configs folder, or follow mmseg's migration guide"
        )


def _old_steps(value: Any) -> Iterator[str]:
    for part in _mappings_in(value):
        kind = dict.get(part, 'type')
        if kind in _OLD_STEPS or (kind == 'MultiScaleFlipAug' and 'img_scale' in part):
            yield kind


def _mappings_in(value: Any) -> Iterator[Mapping]:
    """All dictionaries in nested dictionaries and lists, the outermost first."""
    if isinstance(value, Mapping):
        yield value
        # Reads the stored values, because normal access to a new-style config imports them.
        value = dict.values(value)
    elif not isinstance(value, (list, tuple)):
        return
    for item in value:
        yield from _mappings_in(item)


def check_packages(cfg: Config, path) -> None:
    """Refuses a model that needs a package that is not installed.

    Without this check mmseg reports a missing registry name, or leaves heads without a base class.

    Raises:
        ValueError: A type has the scope of a missing package, or is a head that needs a missing
            package.
    """
    for part in _mappings_in(dict.get(cfg._cfg_dict, 'model')):
        kind = dict.get(part, 'type')
        if not isinstance(kind, str):
            continue
        package = _PACKAGE_OF.get(kind, kind.partition('.')[0] if '.' in kind else None)
        if package in _SIBLINGS and find_spec(package) is None:
            raise ValueError(
                f'{path}: the model has a {kind}, which needs {package}, and {package} is not '
                f'installed: pip install {_SIBLINGS[package]}'
            )


def require(cfg: Config, *names: str) -> None:
    """Checks that a config has all keys that a tool needs.

    Args:
        cfg: The config.
        *names: The keys, such as ``'test_dataloader.dataset'``.

    Raises:
        ValueError: A key is missing; the message names the key.
    """
    for name in names:
        found = cfg
        for part in name.split('.'):
            found = found.get(part) if isinstance(found, Mapping) or found is cfg else None
        if not found:
            raise ValueError(
                f'the config {cfg.filename or ""} has no `{name}`: expected a complete config of '
                'mmseg 1.x, or a config with this key in one of its _base_ files'
            )


def check_data_root(cfg: Config, key: str) -> None:
    """Checks that a data set's folder or file exists, and that its folder of images exists.

    Args:
        cfg: The config.
        key: The config's key of the data set, such as ``'test_dataloader.dataset'``. If this data
            set wraps another one, the function checks the innermost one.

    Raises:
        ValueError: The folder or file does not exist.
    """
    dataset = cfg
    for name in key.split('.'):
        dataset = dataset[name]
    while isinstance(dataset.get('dataset'), Mapping):
        dataset, key = dataset['dataset'], f'{key}.dataset'
    root = dataset.get('data_root')
    # mmengine reads a path with a scheme through a storage backend.
    if not isinstance(root, str) or not root or '://' in root:
        return
    names = [name for name, value in variables_of(cfg).items() if value == root]
    if os.path.exists(root):
        _check_image_folder(dataset, key, root, names)
        return
    remedy = f'set the environment variable {names[0]}, or' if names else 'mend the path, or use'
    raise ValueError(
        f'the folder of the data set does not exist: {root} (of {key}, seen from {os.getcwd()}): '
        f'{remedy} --cfg-options {key}.data_root=DIR'
    )


def _check_image_folder(dataset: Mapping, key: str, root: str, variables: list[str]) -> None:
    images = (dataset.get('data_prefix') or {}).get('img_path')
    if isinstance(images, str) and '{' in images:
        # The data set replaces {split} and {condition}; only the folder before them is known.
        images = os.path.dirname(images.partition('{')[0])
    folder = os.path.join(root, images) if isinstance(images, str) else root
    if os.path.exists(folder) or not os.path.isdir(root):
        return
    there = sorted(entry.name for entry in os.scandir(root) if entry.is_dir())
    remedy = f'correct the environment variable {variables[0]}, or ' if variables else ''
    raise ValueError(
        f'the image folder {folder} does not exist ({root} holds the folders '
        f'{", ".join(there[:8]) or "none"}): {remedy}use --cfg-options {key}.data_root=DIR or '
        f'{key}.data_prefix.img_path=FOLDER'
    )
