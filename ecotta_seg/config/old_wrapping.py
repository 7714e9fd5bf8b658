"""RDumb and LAW as methods around another method: a form that this version reads with a warning."""

from collections.abc import Mapping
from typing import Any

from ..names.old_names import warn_old_name
from ..names.type_names import type_name

# For each old type: the name and the value of the option that has replaced the type.
_OPTIONS = {
    'rdumb': lambda old: ('reset_every', old.get('every', 1000)),
    'law': lambda old: ('layer_weights', dict(exponent=old.get('exponent', 1.0))),
}
_OWN = {'rdumb': 'every', 'law': 'exponent'}
# Options of any method. In the old form the outer method had them, and the inner one used them.
_HANDED_ON = ('autocast', 'estimate', 'memory_budget', 'compute_budget')


def without_wrapping(options: Mapping[str, Any]) -> dict[str, Any]:
    """Converts ``type='rdumb'`` and ``type='law'`` around a method to options of the method.

    Args:
        options: A method's options in the current form, or in the old one, such as
            ``dict(type='rdumb', every=1000, method=dict(type='tent', ...))``.

    Returns:
        A copy in the current form, such as ``dict(type='tent', ..., reset_every=1000)``.

    Raises:
        ValueError: The old form has no ``method``, has other options, or has the same type twice.
    """
    kind = type_name(options.get('type'))
    if kind not in _OPTIONS:
        return dict(options)
    name, value = _OPTIONS[kind](options)
    current = f'dict(type=..., {name}={value!r})'
    inner = options.get('method')
    unknown = sorted({*options} - {'type', 'method', _OWN[kind], *_HANDED_ON})
    if not isinstance(inner, Mapping) or unknown:
        what = f'the option {unknown[0]!r}' if unknown else 'no `method`'
        raise ValueError(
            f'the adaptation type {kind!r} has become an option of the other methods, and this '
            f'config of it has {what}: write {current} with the options of the method'
        )
    warn_old_name(f'type={kind!r}, method=dict(type=...)', current, 'adaptation')
    inner = without_wrapping(inner)
    if name in inner:
        raise ValueError(f'expected one {kind} around a method, got two: leave out one of them')
    handed_on = {key: options[key] for key in _HANDED_ON if options.get(key) is not None}
    return {**inner, **handed_on, name: value}
