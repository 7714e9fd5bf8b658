"""The method in a config: its preset, options, adapters, budgets and seed."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Optional, Union

from mmengine.config import Config

from ..names.method_options import check_method_options, method_options
from ..names.type_names import type_name
from ..startup.compute_budget import parse_compute_budget
from ..startup.memory_budget import parse_budget
from .config import READ_NAMES, read_config


def known_methods(configs: Path) -> list[str]:
    """Returns the sorted names of the methods in ``configs/_base_/adaptation``."""
    return sorted(path.stem for path in (configs / '_base_' / 'adaptation').glob('*.py'))


def method_file(name: str, configs: Path) -> Path:
    """Returns the file with a method's settings: ``configs/_base_/adaptation/<name>.py``.

    A name that ends with ``.py`` is the path of a user's file, for example from
    ``tools/choose.py``.

    Raises:
        ValueError: The method does not exist.
    """
    if name.endswith('.py'):
        if not Path(name).is_file():
            raise ValueError(
                f'--method {name}: expected a file with a method, which does not exist'
            )
        return Path(name)
    known = known_methods(configs)
    if name not in known:
        raise ValueError(f'--method {name}: expected one of {", ".join(known)}')
    return configs / '_base_' / 'adaptation' / f'{name}.py'


def method_name(options: Mapping) -> str:
    """Returns the name of the ``type`` in a method's options; for a class, its registered name."""
    kind = options.get('type')
    if isinstance(kind, type):
        from ..registry import ADAPTATION_METHODS

        names = [name for name, cls in ADAPTATION_METHODS.module_dict.items() if cls is kind]
        return names[0] if names else kind.__name__
    return type_name(kind)


def with_method(cfg: Config, name: str, configs: Path, options: Optional[Mapping] = None) -> None:
    """Puts the method ``configs/_base_/adaptation/<name>.py`` into a config.

    If the config already has settings for this method, they stay. Settings for another method are
    removed. The ``custom_imports`` of a user's file are added to those of the config.

    Args:
        cfg: Changed in place.
        name: Name of the method, or the path of a user's file, see ``method_file``.
        configs: The folder ``configs``.
        options: ``--cfg-options`` of the command line. The options for ``adaptation`` apply to this
            method.

    Raises:
        ValueError: The file does not exist or has other settings, or the method has no such
            option.
    """
    path = method_file(name, configs)
    if (cfg.get('method') or method_name(cfg.get('adaptation') or {})) == name:
        check_method_options(cfg.adaptation)
        return
    preset = read_config(path)
    found = preset.get('adaptation')
    if not isinstance(found, Mapping) or not found.get('type'):
        raise ValueError(f'--method {name}: expected `adaptation = dict(type=...)` in the file')
    read = set(READ_NAMES['']) - {'adaptation', 'custom_imports', 'method'}
    others = sorted(set(preset.keys()) & read)
    if others:
        raise ValueError(
            f'--method {name}: expected only `adaptation` and `custom_imports` in the file, got '
            f'also {", ".join(others)}: put these into the config of the run'
        )
    _add_imports(cfg, preset.get('custom_imports') or {})
    cfg.adaptation = found
    # Two presets can have the same type; the results must distinguish them.
    cfg.method = path.stem if name.endswith('.py') else name
    own = {k: v for k, v in (options or {}).items() if k.startswith('adaptation.')}
    if own:
        cfg.merge_from_dict(own)
    check_method_options(cfg.adaptation)


def _add_imports(cfg: Config, added: Mapping) -> None:
    """Adds a preset's ``custom_imports`` to those of a config."""
    if not added:
        return
    own = cfg.get('custom_imports') or {}
    names: list[str] = []
    for imports in (own.get('imports') or [], added.get('imports') or []):
        names += [imports] if isinstance(imports, str) else imports
    cfg.custom_imports = {**added, **own, 'imports': list(dict.fromkeys(names))}


def with_meta_networks(adaptation: Optional[dict]) -> Optional[dict]:
    """Returns ``adaptation`` if the method has meta networks, else None."""
    return adaptation if adaptation and 'meta_networks' in adaptation else None


def with_adapters(adaptation: dict, path: str) -> None:
    """Puts a file of meta networks into the options of a method.

    Args:
        adaptation: Changed in place.
        path: The file.

    Raises:
        ValueError: The method has no meta networks.
    """
    options = with_meta_networks(adaptation)
    if options is None:
        raise ValueError(
            'a file of adapters goes with a method that has meta networks, such as ecotta, not '
            f'{type_name(adaptation)}'
        )
    options['adapters'] = str(path)


def with_memory_budget(adaptation: dict, budget: Union[str, int, float]) -> None:
    """Puts a memory budget into the options of a method.

    Args:
        adaptation: Changed in place.
        budget: See ``ecotta_seg.startup.memory_budget.parse_budget``.

    Raises:
        ValueError: The budget is invalid.
    """
    parse_budget(budget, 1)
    adaptation['memory_budget'] = budget


def with_compute_budget(adaptation: dict, budget: Union[str, int, float]) -> None:
    """Puts a compute budget into the options of a method.

    Args:
        adaptation: Changed in place.
        budget: See ``ecotta_seg.startup.compute_budget.parse_compute_budget``.

    Raises:
        ValueError: The budget is invalid.
    """
    parse_compute_budget(budget)
    adaptation['compute_budget'] = budget


def merged_estimate(own: Any, asked: Any) -> Any:
    """Merges two settings for the estimate of mIoU, see ``LabelFreeEstimate``.

    Args:
        own: The setting in the method's config: a dictionary of options, True, False or None.
        asked: The setting for all methods. Its options take precedence; True keeps the method's
            options.
    """
    if isinstance(own, Mapping) and isinstance(asked, Mapping):
        return {**own, **asked}
    return own if asked is True and isinstance(own, Mapping) else asked


def with_seed(cfg: Config, seed: int) -> None:
    """Puts the seed of all random generators, including the methods' own, into a config."""
    cfg.randomness = dict(cfg.get('randomness') or {}, seed=seed)
    # A method that draws has its own generator, which is saved with the stream.
    options = cfg.get('adaptation') or {}
    if 'seed' in options or 'seed' in (method_options(method_name(options)) or ()):
        cfg.adaptation['seed'] = seed
