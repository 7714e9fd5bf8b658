"""``--cfg-options key=value`` as in mmengine, but with values of any characters."""

import os
import re
from argparse import ArgumentParser, Namespace
from typing import Any

from mmengine.config import DictAction

from .old_keys import current_key

_SPACE = '\0'


class Options(DictAction):
    """mmengine's ``DictAction``, but it keeps spaces and reports arguments without ``key=value``.

    A value in quotes is always a text, and so is an existing path with a comma.
    """

    def __call__(self, parser: ArgumentParser, namespace: Namespace, values, option_string=None):
        """Adds the options to the existing ones."""
        options = dict(getattr(namespace, self.dest, None) or {})
        for text in values:
            key, equals, value = text.partition('=')
            if not key.strip() or not equals:
                parser.error(f'argument {option_string}: expected key=value, got {text!r}')
            try:
                options[current_key(key.strip(), option_string)] = parse_value(value)
            except AssertionError:
                parser.error(
                    f'argument {option_string}: the brackets in {text!r} do not match; put a text '
                    'with brackets and commas in quotes: key="\'a(b,c\'"'
                )
        setattr(namespace, self.dest, options)


def parse_value(text: str) -> Any:
    """Parses a number, Boolean, None, list, tuple or text as mmengine does, but keeps spaces."""
    text = text.strip()
    if len(text) > 1 and text[0] == text[-1] and text[0] in '\'"':
        return text[1:-1]
    is_list = text[:1] + text[-1:] in ('[]', '()')
    if text.startswith('~') and not is_list:
        # A shell does not expand ``~`` after an equals sign.
        text = os.path.expanduser(text)
    if not is_list and (',' not in text or os.path.exists(text)):
        return DictAction._parse_int_float_bool(text)
    # Spaces around brackets and commas of a list have no meaning.
    text = re.sub(r'\s*([,\[\]()])\s*', r'\1', text)
    return _with_spaces(DictAction._parse_iterable(text.replace(' ', _SPACE)))


def _with_spaces(value: Any) -> Any:
    if isinstance(value, str):
        return value.replace(_SPACE, ' ')
    if isinstance(value, (list, tuple)):
        return type(value)(_with_spaces(item) for item in value)
    return value
