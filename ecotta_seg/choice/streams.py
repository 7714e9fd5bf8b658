"""Writes two streams of synthetic weather on clear frames: for the search and to confirm it."""

from collections.abc import Mapping, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from mmengine.config import Config
from mmengine.registry import DefaultScope
from mmseg.registry import DATASETS

from ..datasets.weather.weather_recipes import CONDITIONS
from ..files.atomic_io import atomic_write_text
from ..names.type_names import is_a, type_name

REALISTIC = 3
"""The severity at which batch statistics do about as well as on real frames (docs/tuning.md)."""
LEAST = 8
_PARTS = ('search', 'confirm')


class Streams(NamedTuple):
    """Configs of the two streams.

    Attributes:
        search, confirm: Paths of the configs of the two streams.
        frames: Number of clear frames in each stream, in this order.
    """

    search: Path
    confirm: Path
    frames: tuple[int, int]


def write_streams(
    cfg: Config,
    folder: Path,
    frames: int = 40,
    rounds: int = 3,
    severity: int = REALISTIC,
    conditions: Sequence[str] = ('fog', 'night', 'rain', 'snow'),
) -> Streams:
    """Writes the configs ``search.py`` and ``confirm.py``.

    The clear frames are evenly spaced frames of the config's ``forgetting_dataloader``. They go to
    the two streams in turn, so the frames of the confirmation are not used in the search.

    Args:
        cfg: A config with a ``forgetting_dataloader``. Its data set must be a
            ``WeatherCityscapesDataset`` or mmseg's ``CityscapesDataset`` in the same layout, alone
            or in a ``ContinualStream``.
        folder: The folder for the configs.
        frames: Maximum number of clear frames in both streams together.
        rounds: Number of rounds of each stream.
        severity: Severity of the weather, 1 to 5.
        conditions: Conditions of ``AdverseWeather``, in the order of the streams.

    Raises:
        ValueError: The data set is of another kind, has too few frames, or a frame has no label; a
            condition or the severity is unknown.
    """
    unknown = [name for name in conditions if name not in CONDITIONS or name == 'clear']
    if unknown:
        known = ', '.join(name for name in CONDITIONS if name != 'clear')
        raise ValueError(f'--conditions {unknown[0]}: expected some of {known}')
    inner = _clear_frames(cfg)
    with DefaultScope.overwrite_default_scope(cfg.get('default_scope') or 'mmseg'):
        places = _labelled(inner)
    if len(places) < LEAST:
        raise ValueError(
            f'expected at least {LEAST} labelled clear frames in the forgetting_dataloader, got '
            f'{len(places)}: the search uses half of them, the others confirm the choice'
        )
    if len(places) > frames:
        places = [places[i] for i in np.linspace(0, len(places) - 1, frames).round().astype(int)]
    inner['pipeline'] = _with_weather(inner['pipeline'])
    inner['severity'] = severity
    paths = []
    for part, own in zip(_PARTS, (places[::2], places[1::2])):
        made = deepcopy(cfg)
        stream = dict(
            type='ContinualStream',
            conditions=tuple(conditions),
            rounds=rounds,
            dataset=dict(inner, indices=own),
        )
        made.test_dataloader = dict(deepcopy(cfg.forgetting_dataloader), dataset=stream)
        path = folder / f'{part}.py'
        atomic_write_text(path, made.pretty_text)
        paths.append(path)
    return Streams(*paths, (len(places[::2]), len(places[1::2])))


def _clear_frames(cfg: Config) -> dict[str, Any]:
    dataset = (cfg.get('forgetting_dataloader') or {}).get('dataset') or {}
    while is_a(dataset, 'ContinualStream'):
        dataset = dataset['dataset']
    inner = {key: deepcopy(value) for key, value in dict(dataset).items()}
    if is_a(inner, 'CityscapesDataset'):
        inner['type'] = 'WeatherCityscapesDataset'
        inner.setdefault('img_suffix', '_leftImg8bit.png')
    if not is_a(inner, 'WeatherCityscapesDataset'):
        raise ValueError(
            f'expected a WeatherCityscapesDataset in the forgetting_dataloader, got '
            f'{type_name(inner) or "none"}: give the config a forgetting_dataloader with labelled '
            "clear frames in Cityscapes' layout, as in configs/_base_/datasets/camvid_weather.py"
        )
    inner.pop('condition', None)
    return inner


def _labelled(inner: Mapping) -> list[int]:
    """Indices of the frames that have a label."""
    built = DATASETS.build(
        dict(deepcopy(dict(inner)), condition='clear', test_mode=True, missing_labels='some')
    )
    asked = inner.get('indices')
    # If ``indices`` is a number N, mmengine takes the first N frames.
    whole = range(len(built)) if asked is None or isinstance(asked, int) else list(asked)
    return [place for i, place in enumerate(whole) if 'seg_map_path' in built.get_data_info(i)]


def _with_weather(pipeline: Sequence[Mapping]) -> list[dict]:
    steps = [dict(step) for step in pipeline]
    if any(is_a(step, 'AdverseWeather') for step in steps):
        return steps
    loads = [i for i, step in enumerate(steps) if type_name(step).startswith('LoadImage')]
    if not loads:
        raise ValueError(
            "the forgetting_dataloader's pipeline has no LoadImageFromFile: the weather is added "
            'directly after it'
        )
    return [*steps[: loads[0] + 1], dict(type='AdverseWeather', seed=0), *steps[loads[0] + 1 :]]
