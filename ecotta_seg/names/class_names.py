"""Matches the classes of a model and of a data set by name."""

from collections.abc import Mapping, Sequence
from typing import Any, Optional

NO_CLASS = 255
"""The id in a mask of a class that the data set does not have."""
_SHOWN = 5


def names_in_checkpoint(meta: Any) -> Optional[list[str]]:
    """Returns the class names in a checkpoint's ``meta``, in the order of the model's outputs.

    Returns None if the checkpoint has no class names.

    Args:
        meta: A dict with ``dataset_meta``, or with ``CLASSES`` of mmseg before 1.0.
    """
    for found in described_classes(meta):
        names = found.get('classes')
        if isinstance(names, (list, tuple)) and names:
            return [str(name) for name in names]
    return None


def described_classes(meta: Any) -> list[dict]:
    """Returns all descriptions of the classes in a checkpoint's ``meta``, newest format first.

    Depending on the version, mmseg writes ``dataset_meta`` with ``classes`` and ``palette``,
    ``dataset_meta`` with ``CLASSES`` and ``PALETTE``, or these two without ``dataset_meta``. The
    returned keys are in lower case.
    """
    if not isinstance(meta, Mapping):
        return []
    places = [place for place in (meta.get('dataset_meta'), meta) if isinstance(place, Mapping)]
    return [{str(key).lower(): value for key, value in place.items()} for place in places]


def match_classes(
    outputs: int, model_names: Optional[Sequence[str]], data_names: Sequence[str]
) -> Optional[list[int]]:
    """Returns the data set's class id for each output of a model.

    The comparison of names ignores case, hyphens and underscores. The classes match if the data set
    has all classes of the model, or the model has all classes of the data set.

    Args:
        outputs: The number of classes that the model predicts.
        model_names: The names of the model's classes, in order; None if unknown.
        data_names: The data set's classes, in the order of the ids.

    Returns:
        The id for each output, ``NO_CLASS`` if the data set has no such class. None if both have
        the same classes in the same order, or if the names are unknown and the numbers are equal.

    Raises:
        ValueError: The numbers differ and the names are unknown, or the names do not match
            unambiguously.
    """
    if model_names is None:
        if outputs == len(data_names):
            return None
        raise ValueError(
            f'the model has {outputs} classes and the data set {len(data_names)}, and the '
            'checkpoint does not name its classes: use the data set that the model was trained '
            'for, or give the names of its outputs as `class_names` in the config'
        )
    if len(model_names) != outputs:
        raise ValueError(
            f'the model has {outputs} classes, but {len(model_names)} names are given for them: '
            'give the name of each output as `class_names` in the config'
        )
    model = [plain_name(name) for name in model_names]
    data = [plain_name(name) for name in data_names]
    if model == data:
        return None
    unknown = [name for name, key in zip(model_names, model) if key not in data]
    missing = [name for name, key in zip(data_names, data) if key not in model]
    unique = len(set(model)) == len(model) and len(set(data)) == len(data)
    if not unique or (unknown and missing):
        raise ValueError(
            'the classes of the model and of the data set cannot be matched by name for certain: '
            f'the model alone has {_listed(unknown)}, the data set alone {_listed(missing)}'
            f'{"" if unique else "; some name occurs twice"}. Use the data set that the model was '
            "trained for, or give the data set's names for its outputs as `class_names` in the "
            'config'
        )
    return [data.index(key) if key in data else NO_CLASS for key in model]


def plain_name(name: str) -> str:
    """Returns a class name in lower case, with spaces in place of hyphens and underscores."""
    return ' '.join(str(name).lower().replace('_', ' ').replace('-', ' ').split())


def _listed(names: Sequence[str]) -> str:
    more = f' and {len(names) - _SHOWN} more' if len(names) > _SHOWN else ''
    return (', '.join(names[:_SHOWN]) or 'none') + more
