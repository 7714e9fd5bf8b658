"""Prepares and checks a model before a test copies, adapts and scores the model."""

import logging
from collections.abc import Sequence
from typing import Any, Optional

from mmengine.model import BaseTTAModel

from ..datasets.inner_datasets import inner_datasets
from ..names.class_names import NO_CLASS, match_classes
from ..names.type_names import is_a
from .matched_classes import number_of_classes, with_matched_classes
from .weight_changes import bare_model, settle_averages


def settle_model(runner: Any) -> None:
    """Loads averaged weights and matches the model's classes with the data set's classes.

    Each hook that copies or replaces the model calls this function. Only the first call changes the
    model.

    Args:
        runner: The Runner, in ``before_test``.

    Raises:
        ValueError: The classes differ and cannot be matched, or the test runs under autocast or
            with test-time augmentation.
    """
    refuse_augmentation(runner)
    if getattr(runner.test_loop, 'fp16', False):
        raise ValueError(
            'expected the precision of the parameters around a step, but test_cfg.fp16=True runs '
            "the test under autocast: leave it out, and set autocast='bf16' in `adaptation` to "
            'run the network in 16 bits'
        )
    settle_averages(runner)
    model = bare_model(runner)
    names = _names(runner.test_dataloader.dataset)
    if names is None or getattr(model, 'classes_of', None) == names:
        return
    table = _table(runner, model, names)
    if table is not None:
        with_matched_classes(model, table)
        _log_matching(runner, names, table)
    model.classes_of = names


def refuse_augmentation(runner: Any) -> None:
    """Refuses mmseg's test-time augmentation, because no method learns from its views.

    Raises:
        ValueError: The model is a test-time augmentation model, or the pipeline makes such views.
    """
    dataset = runner.test_dataloader.dataset
    steps = [
        step
        for part in inner_datasets(dataset)
        for step in getattr(getattr(part, 'pipeline', None), 'transforms', ())
    ]
    if isinstance(bare_model(runner), BaseTTAModel) or any(is_a(s, 'TestTimeAug') for s in steps):
        raise ValueError(
            "expected frames as they are, but this is mmseg's test-time augmentation (--tta, "
            'TestTimeAug): leave it out, and average over views with --views N (or `views = N` in '
            'the config)'
        )


def check_same_classes(runner: Any, dataset: Any, what: str) -> None:
    """Refuses a further data set whose classes differ from those of the tested data set.

    Raises:
        ValueError: The classes differ.
    """
    tested, other = _names(runner.test_dataloader.dataset), _names(dataset)
    if None not in (tested, other) and tested != other:
        raise ValueError(
            f'expected the classes of the tested data set in {what}, in the same order, but its '
            f'{len(other)} classes differ: give both the same classes'
        )


def check_trained_classes(runner: Any, model: Any) -> None:
    """Refuses training data whose class ids are not in the order of the model's outputs.

    Raises:
        ValueError: The numbers or names of classes differ.
    """
    names = _names(runner.train_dataloader.dataset)
    if names is not None and _table(runner, model, names) is not None:
        raise ValueError(
            'expected training data with the classes of the model in the order of its outputs '
            f'({", ".join(_names_of(runner, model))}), but the data set has {", ".join(names)}: '
            'train with the data set of the model'
        )


def _table(runner: Any, model: Any, names: Sequence[str]) -> Optional[list[int]]:
    outputs = number_of_classes(model)
    if outputs is None:
        return None
    return match_classes(outputs, _names_of(runner, model), names)


def _names_of(runner: Any, model: Any) -> Optional[Sequence[str]]:
    return runner.cfg.get('class_names') or getattr(model, 'class_names', None)


def _names(dataset: Any) -> Optional[list[str]]:
    classes = (getattr(dataset, 'metainfo', None) or {}).get('classes')
    return [str(name) for name in classes] if classes else None


def _log_matching(runner: Any, names: Sequence[str], table: Sequence[int]) -> None:
    text = 'the classes of the model are matched with those of the data set by name'
    missing = [name for index, name in enumerate(names) if index not in table]
    if missing:
        text += f'; the model does not know {", ".join(missing)}: their IoU is 0'
    if NO_CLASS in table:
        text += (
            f'; {table.count(NO_CLASS)} of its classes are not in the data set: predictions of '
            'them count as wrong on labelled pixels'
        )
    runner.logger.log(logging.WARNING, text)
