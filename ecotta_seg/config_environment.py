"""Environment variables in configs, ``'{{$ACDC_ROOT:data/acdc}}'``, with values of any kind.

mmengine puts a value into the text of the config before that is read as Python: an apostrophe or a
backslash in a path breaks it. Here a name goes into the text, and the value into what was read.
"""

import os
import re
from collections.abc import Mapping
from typing import Any
from unittest import mock

from mmengine.config import Config

# In a text. With a quote behind the braces mmengine means a number or a list, and no text.
_IN_TEXT = re.compile(r'\{\{\s*\$(\w+)\s*:\s*(\S*?)\s*\}\}')
_PLAIN = re.compile(r'[^\'"\\\x00-\x1f\x7f\ud800-\udfff]*')
_STAND_IN = 'environment_variable_{}_of_this_config'
_STAND_INS = re.compile(_STAND_IN.format(r'(\w+?)'))


def config_from_file(path: str) -> Config:
    """mmengine's ``Config.fromfile``; variables in texts may hold any characters.

    In new-style configs (pure Python), too, which mmengine leaves as they are. The caller imports
    the custom modules.

    Raises:
        ValueError: A value with a quote or a backslash is in a place that is read as code.
    """
    substitute = Config._substitute_env_variables

    def substituted(filename: str, temp_config_name: str) -> dict:
        with open(filename, encoding='utf-8') as file:
            names = {name for name, _ in _IN_TEXT.findall(file.read())} & os.environ.keys()
        # Plain ones go into the text as they are: `_base_` is read before there is a config.
        values = {name: _value(name) for name in names}
        values = {n: v if _PLAIN.fullmatch(v) else _STAND_IN.format(n) for n, v in values.items()}
        # mmengine logs each variable; the first line of a log imports torch.
        silent = mock.patch('mmengine.config.config.print_log')
        with mock.patch.dict(os.environ, values), silent:
            found = substitute(filename, temp_config_name) or {}
        return {name: os.environ.get(name, value) for name, value in found.items()}

    with mock.patch.object(Config, '_substitute_env_variables', staticmethod(substituted)):
        try:
            cfg = Config.fromfile(path, import_custom_modules=False)
        except Exception as error:
            found = _STAND_INS.search(str(error))
            if found:
                raise ValueError(
                    f'the environment variable {found[1]} is in a place of the config that is '
                    'read as code (`_base_`, an import), where its value '
                    f'{os.environ.get(found[1])!r} cannot be: give it a path without quotes and '
                    'backslashes'
                ) from error
            raise
    _put_values_in(cfg._cfg_dict)
    return cfg


def variables_of(cfg: Config) -> dict[str, str]:
    """The variables that stand in the texts of a config and its bases, each with its value."""
    return {name: _value(name) or default for name, default in _IN_TEXT.findall(cfg.text)}


def _value(name: str, default: str = '') -> str:
    """A variable's value; ``~`` at its beginning is the home folder, as in a shell."""
    return os.path.expanduser(os.environ.get(name, default))


def _put_values_in(value: Any) -> Any:
    if isinstance(value, str):
        value = _STAND_INS.sub(lambda match: _value(match[1], match[0]), value)
        return _IN_TEXT.sub(lambda match: _value(match[1]) or match[2], value)
    if isinstance(value, Mapping):
        # As they are stored: asking a new-style config for a value would import it.
        for key, item in list(dict.items(value)):
            found = _put_values_in(item)
            if found is not item:
                dict.__setitem__(value, key, found)
        return value
    if isinstance(value, (list, tuple)):
        found = [_put_values_in(item) for item in value]
        if all(new is old for new, old in zip(found, value)):
            return value
        return found if isinstance(value, list) else tuple(found)
    return value
