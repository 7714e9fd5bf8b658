"""Adaptation methods by name, and one clear sentence where a config names a wrong one."""

import difflib
import inspect
from typing import Optional

from mmengine.registry import Registry
from torch import nn

from ..type_names import type_name

ADAPTATION_METHODS = Registry('adaptation method', locations=['ecotta_seg.adaptation'])


def check_keys(what: str, options: dict, known: list[str]) -> None:
    """Refuses option names that ``what`` does not know.

    Raises:
        ValueError: Naming the key, the likely one it was meant to be, and all known ones.
    """
    for key in options:
        if key not in known:
            close = difflib.get_close_matches(key, known, n=1)
            hint = f'; did you mean {close[0]!r}?' if close else '.'
            raise ValueError(f'{what} has no option {key!r}{hint} It knows: {", ".join(known)}')


def constructor_options(cls: type) -> list[str]:
    """The keyword names that ``cls(...)`` takes, without ``self`` and the segmentor."""
    names = []
    for base in cls.__mro__:
        if '__init__' not in vars(base):
            continue
        parameters = list(inspect.signature(base.__init__).parameters.values())[1:]
        names += [p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
        if not any(p.kind is p.VAR_KEYWORD for p in parameters):
            break
    return [name for name in dict.fromkeys(names) if name != 'segmentor']


def build_method(config: dict, segmentor: nn.Module, views: Optional[int] = None) -> nn.Module:
    """Builds the adaptation method that a config describes, around a segmentor.

    Args:
        config: ``type`` (a registered name or class) and the method's options; ``views`` and
            ``autocast`` go with any method, see ``AdaptationMethod``. (CoTTA has ``views`` of its
            own, which it learns from.)
        segmentor: The source model; the method takes it over and changes it.
        views: How many views every method is to predict, whatever its config says.

    Raises:
        ValueError: The type is missing or unknown, an option is misspelt, or the method cannot be
            run under autocast or with several views.
    """
    options = dict(config)
    name = options.pop('type', None)
    if isinstance(name, str):
        cls = ADAPTATION_METHODS.module_dict.get(type_name(name))
    else:
        cls = name if isinstance(name, type) and hasattr(name, 'method_state') else None
    if cls is None:
        known = sorted(ADAPTATION_METHODS.module_dict)
        raise ValueError(f'unknown adaptation method {name!r}: expected one of {known}')
    known = constructor_options(cls)
    own = options.pop('views', None) if 'views' not in known else None
    views = own if views is None else views
    autocast = options.pop('autocast', None) if 'autocast' not in known else None
    check_keys(
        f'adaptation method {name!r}', options, [*dict.fromkeys([*known, 'views', 'autocast'])]
    )
    method = cls(segmentor, **options)
    # Only now does a subclass have all that a calibration fills.
    if getattr(method, 'kept_calibration', None) is not None:
        method.take_calibration(method.kept_calibration)
    if views is not None:
        method.use_views(views)
    if autocast is not None:
        method.use_autocast(autocast)
    return method
