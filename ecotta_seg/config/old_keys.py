"""Old names of a config's keys, which this version reads with a warning."""

from collections.abc import Mapping

from mmengine.config import Config

from ..names.old_names import warn_old_name
from .old_wrapping import without_wrapping

OLD_KEYS = {'clear_dataloader': 'forgetting_dataloader'}
"""The old names of keys, and their current names."""


def current_key(key: str, where: str) -> str:
    """Returns the current name of a key such as ``'clear_dataloader.num_workers'``.

    If the name is an old one, the function gives a warning.

    Args:
        key: The key.
        where: The place of the key, for the warning.
    """
    first, dot, inner = key.partition('.')
    if first not in OLD_KEYS:
        return key
    warn_old_name(first, OLD_KEYS[first], where)
    return f'{OLD_KEYS[first]}{dot}{inner}'


def rename_old_keys(cfg: Config) -> None:
    """Moves the settings under old keys to the current keys, see also ``without_wrapping``.

    Settings under the old key change those under the current key, as the settings of a config
    change those of its bases: a config written for an earlier version has bases of this version.

    Args:
        cfg: Changed in place.
    """
    for old in OLD_KEYS:
        if old not in cfg:
            continue
        new, value = current_key(old, str(cfg.filename or 'the config')), cfg.pop(old)
        if isinstance(value, Mapping) and isinstance(cfg.get(new), Mapping):
            cfg.merge_from_dict({new: value})
        else:
            cfg[new] = value
    if isinstance(cfg.get('adaptation'), Mapping):
        current = without_wrapping(cfg.adaptation)
        if 'method' in cfg.adaptation and 'method' not in current:
            cfg.adaptation = current
