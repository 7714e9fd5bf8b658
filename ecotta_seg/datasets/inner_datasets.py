"""Finds the data sets inside a wrapper."""

from collections.abc import Mapping
from typing import Any


def inner_datasets(dataset: Any) -> list:
    """Returns the data sets that a data set wraps, or the data set itself if it wraps none.

    Args:
        dataset: A ``ContinualStream``, one of mmengine's ``ConcatDataset``, ``RepeatDataset`` and
            ``ClassBalancedDataset``, or a data set of files.
    """
    found = getattr(dataset, 'datasets', None) or getattr(dataset, 'dataset', None)
    if not found:
        return [dataset]
    if isinstance(found, Mapping):
        found = found.values()
    elif not isinstance(found, (list, tuple)):
        found = [found]
    return [part for inner in found for part in inner_datasets(inner)]
