"""The options of the shipped methods, read from their source text without an import of torch."""

import ast
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Optional

from .options import check_keys
from .type_names import type_name

# Options of every method.
OF_ANY_METHOD = (
    'views',
    'autocast',
    'estimate',
    'memory_budget',
    'compute_budget',
    'reset_every',
    'layer_weights',
)
_METHODS = Path(__file__).resolve().parents[1] / 'methods'


@cache
def method_options(name: str) -> Optional[tuple[str, ...]]:
    """Returns the names of a method's own options: the ``constructor_options`` of its class.

    Args:
        name: The registered name.

    Returns:
        The names; None if no shipped method has this name.
    """
    classes: dict[str, ast.ClassDef] = {}
    for path in sorted(_METHODS.glob('*.py')):
        for node in ast.parse(path.read_text(encoding='utf-8')).body:
            if isinstance(node, ast.ClassDef):
                classes[node.name] = node
    found = [cls for cls in classes.values() if _registered_name(cls) == name]
    if not found:
        return None
    cls: Optional[ast.ClassDef] = found[0]
    names: list[str] = []
    while cls is not None:
        for node in cls.body:
            if isinstance(node, ast.FunctionDef) and node.name == '__init__':
                names += [a.arg for a in (*node.args.args[1:], *node.args.kwonlyargs)]
                if node.args.kwarg is None:
                    return _without_segmentor(names)
        bases = [classes[b.id] for b in cls.bases if isinstance(b, ast.Name) and b.id in classes]
        cls = bases[0] if bases else None
    return _without_segmentor(names)


def _without_segmentor(names: list[str]) -> tuple[str, ...]:
    return tuple(name for name in dict.fromkeys(names) if name != 'segmentor')


def _registered_name(cls: ast.ClassDef) -> Optional[str]:
    """``name`` of the decorator ``@ADAPTATION_METHODS.register_module(name=...)``."""
    for decorator in cls.decorator_list:
        for keyword in getattr(decorator, 'keywords', ()):
            if keyword.arg == 'name' and isinstance(keyword.value, ast.Constant):
                return keyword.value.value
    return None


def check_method_options(adaptation: Mapping) -> None:
    """Refuses an option that a shipped method does not have.

    Args:
        adaptation: ``type`` and the options of a method, as in a config. If ``type`` is a class, or
            is not the name of a shipped method, the options are not checked.

    Raises:
        ValueError: An option is unknown.
    """
    kind = adaptation.get('type')
    if not isinstance(kind, str):
        return
    own = method_options(type_name(kind))
    if own is not None:
        options = {key: value for key, value in adaptation.items() if key != 'type'}
        check_keys(f'adaptation method {kind!r}', options, [*dict.fromkeys([*own, *OF_ANY_METHOD])])
