"""Environment variables in configs, ``'{{$ACDC_ROOT:data/acdc}}'``, with values of any kind.

mmengine inserts the value into the config's text before it parses the text as Python. An
apostrophe or a backslash in a path then breaks the config. This module inserts a placeholder into
the text, and replaces the placeholder by the value after parsing.
"""

import os
import re
from collections.abc import Mapping
from typing import Any
from unittest import mock

from mmengine.config import Config

# A variable in a string. With a quote after the opening braces, mmengine reads a number or a list.
_IN_TEXT = re.compile(r'\{\{\s*\$(\w+)\s*:\s*(\S*?)\s*\}\}')
_PLAIN = re.compile(r'[^\'"\\\x00-\x1f\x7f\ud800-\udfff]*')
_STAND_IN = 'environment_variable_{}_of_this_config'
_STAND_INS = re.compile(_STAND_IN.format(r'(\w+?)'))


def config_from_file(path: str) -> Config:
    """Reads a config as ``Config.fromfile`` does, but variables may contain any characters.

    The function also replaces variables in new-style configs (pure Python), which mmengine does not
    do. The caller imports the custom modules.

    Raises:
        ValueError: A value with a quote or a backslash is in a place that is parsed as code.
    """
    substitute = Config._substitute_env_variables

    def substituted(filename: str, temp_config_name: str) -> dict:
        with open(filename, encoding='utf-8') as file:
            names = {name for name, _ in _IN_TEXT.findall(file.read())} & os.environ.keys()
        # Plain values go directly into the text, because `_base_` is read before the config exists.
        values = {name: _value(name) for name in names}
        values = {n: v if _PLAIN.fullmatch(v) else _STAND_IN.format(n) for n, v in values.items()}
        # mmengine logs each variable, and the first log line imports torch.
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
                    f'the environment variable {found[1]} is used in a place of the config that '
                    'is read as code (`_base_`, an import), where its value '
                    f'{os.environ.get(found[1])!r} is not allowed: give the variable a path '
                    'without quotes and backslashes'
                ) from error
            raise
    _put_values_in(cfg._cfg_dict)
    return cfg


def variables_of(cfg: Config) -> dict[str, str]:
    """Returns the variables in the strings of a config and its bases, with value or default."""
    return {name: _value(name) or default for name, default in _IN_TEXT.findall(cfg.text)}


def _value(name: str, default: str = '') -> str:
    """A variable's value; a leading ``~`` is the home folder, as in a shell."""
    return os.path.expanduser(os.environ.get(name, default))


def _put_values_in(value: Any) -> Any:
    if isinstance(value, str):
        value = _STAND_INS.sub(lambda match: _value(match[1], match[0]), value)
        return _IN_TEXT.sub(lambda match: _value(match[1]) or match[2], value)
    if isinstance(value, Mapping):
        # Reads the stored values, because normal access to a new-style config imports them.
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
