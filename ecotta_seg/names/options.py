"""The options of a class, and a clear error for an option that the class does not have."""

import difflib
import inspect


def check_keys(what: str, options: dict, known: list[str]) -> None:
    """Refuses options whose names are not among the ``known`` ones.

    Raises:
        ValueError: An option is unknown. The message names ``what``, the option, the most similar
            known option, and all known options.
    """
    for key in options:
        if key not in known:
            close = difflib.get_close_matches(key, known, n=1)
            hint = f'; did you mean {close[0]!r}?' if close else '.'
            raise ValueError(f'{what} has no option {key!r}{hint} It knows: {", ".join(known)}')


def constructor_options(cls: type) -> list[str]:
    """Returns the keyword names that ``cls(...)`` takes, without ``self`` and ``segmentor``."""
    names = []
    for base in cls.__mro__:
        if '__init__' not in vars(base):
            continue
        parameters = list(inspect.signature(base.__init__).parameters.values())[1:]
        names += [p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
        if not any(p.kind is p.VAR_KEYWORD for p in parameters):
            break
    return [name for name in dict.fromkeys(names) if name != 'segmentor']
