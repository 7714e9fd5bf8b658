"""Chooses the frames of a config's test: order, seed, conditions, split and number."""

import os
from collections.abc import Mapping, Sequence
from typing import Optional

from mmengine.config import Config

from ..names.choices import STREAMS
from ..names.type_names import is_a, type_name
from ..startup.first_look import check_weather


def _stream(cfg: Config, purpose: str) -> Mapping:
    dataset = cfg.test_dataloader.dataset
    if not is_a(dataset, 'ContinualStream'):
        raise ValueError(
            f'{purpose} needs a ContinualStream as the test data set, not {type_name(dataset)}'
        )
    return dataset


def with_stream(cfg: Config, name: Optional[str], seed: Optional[int] = None) -> None:
    """Chooses the order of the stream that a config tests on, and its seed.

    Args:
        cfg: With a ``ContinualStream`` as its test data set.
        name: ``'continual'`` (condition after condition, with hard boundaries), ``'ramp'`` (each
            condition builds up and clears again) or ``'mixed'`` (the condition changes from frame
            to frame); None keeps the order.
        seed: Seed of the weather in every frame (``AdverseWeather``) and of the mixed order. A
            different seed gives a different stream of the same kind. None keeps both seeds.

    Raises:
        ValueError: The name is unknown or the data set is not a ``ContinualStream``.
    """
    if name is not None and name not in STREAMS:
        raise ValueError(f'--stream {name}: expected one of {", ".join(STREAMS)}')
    dataset = _stream(cfg, 'choosing a stream or its seed')
    if name is not None:
        dataset.order = name
    if seed is not None:
        dataset.seed = seed
        for transform in dataset.dataset.get('pipeline') or ():
            if is_a(transform, 'AdverseWeather'):
                transform.seed = seed


def with_frames(
    cfg: Config,
    conditions: Optional[Sequence[str]] = None,
    split: Optional[str] = None,
    frames: Optional[int] = None,
) -> None:
    """Chooses the frames that a config tests on.

    Args:
        cfg: With a ``ContinualStream`` as its test data set.
        conditions: Names of the conditions, in the order of the stream; None for the config's.
        split: Name of the split of the data set inside the stream; None for the config's.
        frames: Number of frames per condition, evenly spaced; None for the config's.

    Raises:
        ValueError: The data set is not a ``ContinualStream``, has folders instead of a split, or
            its weather is made and has no such condition.
    """
    if conditions is None and split is None and frames is None:
        return
    dataset = _stream(cfg, 'choosing conditions, a split or a number of frames')
    inner = dataset.get('dataset') or {}
    if conditions is not None:
        if any(is_a(step, 'AdverseWeather') for step in inner.get('pipeline') or ()):
            check_weather([name for name in conditions if name != 'clear'] or ['fog'])
        dataset.conditions = list(conditions)
    if split is not None:
        if 'split' not in inner and 'data_prefix' in inner:
            raise ValueError(
                f'--split {split}: the config names the folders of its {type_name(inner)} instead '
                'of a split; use --cfg-options test_dataloader.dataset.dataset.data_prefix.img_path'
                '=DIR and seg_map_path=DIR'
            )
        dataset.dataset.split = split
    if frames is not None:
        dataset.frames_per_condition = frames


def without_missing_clear_day(cfg: Config) -> Optional[str]:
    """Removes the clear day from a config if its data set is not on this disk.

    A first run does not need this data set; without it, the run does not measure forgetting. If an
    environment variable names the folder, the folder is expected to exist: the config keeps the
    data set, and the run stops because the folder is missing.

    Returns:
        A sentence for the user; None if the config is unchanged.
    """
    dataset = (cfg.get('forgetting_dataloader') or {}).get('dataset') or {}
    depth = 0
    while isinstance(dataset.get('dataset'), Mapping):
        dataset, depth = dataset['dataset'], depth + 1
    root = dataset.get('data_root')
    if not isinstance(root, str) or '://' in root or os.path.exists(root):
        return None
    if root in (os.path.expanduser(value) for value in os.environ.values()):
        return None
    key = 'forgetting_dataloader.dataset' + '.dataset' * depth
    cfg.forgetting_dataloader = None
    return (
        f'forgetting is not measured, because the clear-weather data set is missing ({root} does '
        'not exist): an environment variable (CITYSCAPES_ROOT for Cityscapes) or --cfg-options '
        f'{key}.data_root=DIR names the folder'
    )
