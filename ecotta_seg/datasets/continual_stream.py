"""The stream of a vehicle's frames: conditions one after the other, in several rounds."""

import copy
from collections.abc import Sequence
from typing import Any, NamedTuple, Optional

import numpy as np
import torch
from mmseg.registry import DATASETS

from ..names.choices import STREAMS
from ..names.old_names import warn_old_name
from .checks.frame_error import FrameError, LabelError
from .condition_dataset import add_metainfo

_OLD_ORDERS = {'sequential': 'continual', 'shuffled': 'mixed'}


class StreamPosition(NamedTuple):
    """The frame at one position of a stream.

    Attributes:
        round: Number of the round, from 1.
        condition: Name of the condition.
        frame: Index into the inner dataset of that condition.
        severity: 1 to 5 on a ramp, else None (the severity of the inner dataset).
    """

    round: int
    condition: str
    frame: int
    severity: Optional[int] = None


@DATASETS.register_module()
class ContinualStream:
    """A fixed sequence of conditions and rounds over one inner dataset per condition.

    The sample at an index depends only on the index, so a run can resume at any position. Each
    sample has ``condition``, ``sequence``, ``round`` (from 1) and ``stream_index`` (from 0) in its
    metainfo. These entries are added after the pipeline, so a standard packing transform is enough.
    More rounds need no more memory, because they repeat the frames of the first round.

    Args:
        dataset: Config of the inner dataset, built once per condition with ``condition=<name>``
            added: :class:`~ecotta_seg.datasets.acdc.ACDCDataset` or
            :class:`~ecotta_seg.datasets.weather.weather_cityscapes.WeatherCityscapesDataset`. If
            this config has no ``missing_labels``, the stream sets ``'some'``.
        conditions: Names, in the order of the stream. (CoTTA, arXiv 2203.13591, introduced this
            order and the ten rounds.)
        rounds: Number of passes over all conditions.
        frames_per_condition: Number of evenly spaced frames per condition; None for all.
        order: ``'continual'``: one condition after the other. ``'mixed'``: the frames of all
            conditions in a seeded random order, different in each round. ``'ramp'``: one condition
            after the other, with a severity that rises from 1 to the inner dataset's own in the
            middle of the condition and falls back to 1; for inner datasets with a ``severity``.
            This version reads the old names ``'sequential'`` and ``'shuffled'`` with a warning.
        seed: Seed of the mixed order.
        sizes_differ: If True, frames may differ in size. If False, the frame check treats a new
            size as a fault of the camera.
        lazy_init: If True, files are listed only by :meth:`full_init` and not by the constructor.

    Attributes:
        mark_bad_frames: If True, a file that cannot be loaded raises no error. If an image cannot
            be loaded, the sample is black with ``frame_fault`` in its metainfo. If only the label
            cannot be loaded, the sample has no label but ``label_fault`` in its metainfo. False by
            default; ``FrameCheckHook`` sets it.

    Raises:
        TypeError: ``dataset`` is not a config.
        ValueError: ``rounds`` or ``frames_per_condition`` is below 1, there are too few frames, a
            condition is unknown or named twice, the order is unknown or needs a severity that the
            dataset does not have, or the inner dataset raises.
    """

    def __init__(
        self,
        dataset: dict,
        conditions: Sequence[str] = ('fog', 'night', 'rain', 'snow'),
        rounds: int = 10,
        frames_per_condition: Optional[int] = None,
        order: str = 'continual',
        seed: int = 0,
        sizes_differ: bool = False,
        lazy_init: bool = False,
    ) -> None:
        if not isinstance(dataset, dict) or 'type' not in dataset:
            raise TypeError(
                'ContinualStream: dataset must be the config of an inner dataset, a dict with '
                f'`type`, not {type(dataset).__name__}'
            )
        conditions = (conditions,) if isinstance(conditions, str) else tuple(conditions)
        if not conditions or len(set(conditions)) != len(conditions):
            raise ValueError(
                f'ContinualStream: conditions must be different names, not {conditions!r}'
            )
        _check_count('rounds', rounds)
        if frames_per_condition is not None:
            _check_count('frames_per_condition', frames_per_condition)
        if isinstance(order, str) and order in _OLD_ORDERS:
            warn_old_name(order, _OLD_ORDERS[order], 'ContinualStream')
            order = _OLD_ORDERS[order]
        if order not in STREAMS:
            raise ValueError(
                f'ContinualStream: unknown order {order!r}, expected one of {", ".join(STREAMS)}'
            )
        self.conditions = conditions
        self.rounds = int(rounds)
        self.frames_per_condition = frames_per_condition
        self.order = order
        self.seed = seed
        self.sizes_differ = sizes_differ
        self.mark_bad_frames = False
        self.datasets = {name: self._build(dataset, name) for name in conditions}
        if order == 'ramp':
            self._check_ramp()
        self._fully_initialized = False
        if not lazy_init:
            self.full_init()

    @staticmethod
    def _build(dataset: dict, condition: str) -> Any:
        config = copy.deepcopy(dataset)
        config['condition'] = condition
        config['lazy_init'] = True
        # Outside test mode mmengine replaces a failed frame with a random one.
        config.setdefault('test_mode', True)
        try:
            built = DATASETS.build(config)
        except TypeError as error:
            if 'condition' not in str(error):
                raise
            raise ValueError(
                f'ContinualStream: the inner dataset {dataset["type"]} takes no `condition`, use '
                'ACDCDataset or WeatherCityscapesDataset'
            ) from None
        if 'missing_labels' not in config and hasattr(built, 'missing_labels'):
            # This takes effect, because no files are listed yet. Some frames of a stream may lack
            # labels.
            built.missing_labels = 'some'
        return built

    def _check_ramp(self) -> None:
        for name, dataset in self.datasets.items():
            fixed = any(
                getattr(transform, 'severity', None) is not None
                for transform in dataset.pipeline.transforms
            )
            if getattr(dataset, 'severity', None) is None or fixed:
                raise ValueError(
                    "ContinualStream: order='ramp' needs an inner dataset with a severity of its "
                    f'own, but that of {name!r} ({type(dataset).__name__}) has none: use '
                    'WeatherCityscapesDataset with severity=1..5, and AdverseWeather without one'
                )

    def full_init(self) -> None:
        """Lists the files of each condition and selects the frames, only on the first call.

        Raises:
            ValueError: A condition's folder is missing or empty, an image has no label, or there
                are fewer frames than ``frames_per_condition``.
        """
        if self._fully_initialized:
            return
        self._frames = {}
        for name, dataset in self.datasets.items():
            dataset.full_init()
            there, wanted = len(dataset), self.frames_per_condition
            wanted = there if wanted is None else wanted
            if wanted > there:
                raise ValueError(
                    f'ContinualStream: frames_per_condition is {wanted} but the condition '
                    f'{name!r} has {there} frames, set it to at most {there} or to None'
                )
            self._frames[name] = [number * there // wanted for number in range(wanted)]
        lengths = [len(frames) for frames in self._frames.values()]
        self._ends = np.cumsum(lengths)
        self._mixed = (0, None)
        self._fully_initialized = True

    @property
    def metainfo(self) -> dict:
        """The inner dataset's metainfo: classes, palette and so on."""
        return self.datasets[self.conditions[0]].metainfo

    @property
    def frames_per_round(self) -> int:
        """Number of samples in one round."""
        self.full_init()
        return int(self._ends[-1])

    def __len__(self) -> int:
        return self.frames_per_round * self.rounds

    def position(self, index: int) -> StreamPosition:
        """Returns the position at ``index``.

        Args:
            index: 0 to ``len(self) - 1``, or negative from the end.

        Returns:
            Round, condition, frame and severity.

        Raises:
            IndexError: ``index`` is outside the stream.
        """
        size = len(self)
        if not -size <= index < size:
            raise IndexError(
                f'ContinualStream: index {index} is outside of a stream of {size} samples'
            )
        round_index, place = divmod(index % size, self.frames_per_round)
        if self.order == 'mixed':
            place = int(self._permutation(round_index)[place])
        number = int(np.searchsorted(self._ends, place, side='right'))
        condition = self.conditions[number]
        frames = self._frames[condition]
        place -= int(self._ends[number]) - len(frames)
        severity = None
        if self.order == 'ramp':
            severity = ramp_severity(place, len(frames), self.datasets[condition].severity)
        return StreamPosition(round_index + 1, condition, frames[place], severity)

    def _permutation(self, round_index: int) -> np.ndarray:
        # Keep only the latest round's permutation, so memory does not grow with the rounds.
        if self._mixed[1] is None or self._mixed[0] != round_index:
            generator = np.random.default_rng([self.seed, round_index])
            self._mixed = (round_index, generator.permutation(self.frames_per_round))
        return self._mixed[1]

    def get_data_info(self, index: int) -> dict:
        """Returns the inner dataset's data info at ``index``.

        Args:
            index: See :meth:`position`.

        Returns:
            Paths and so on, with ``condition``, ``round``, ``stream_index`` and, on a ramp,
            ``severity`` added.
        """
        position = self.position(index)
        info = self.datasets[position.condition].get_data_info(position.frame)
        info.update(self._entries(index, position))
        if position.severity is not None:
            info['severity'] = position.severity
        return info

    def _entries(self, index: int, position: StreamPosition) -> dict:
        return {
            'condition': position.condition,
            'round': position.round,
            'stream_index': index % len(self),
        }

    def __getitem__(self, index: int) -> dict:
        """Loads the sample at ``index``.

        Args:
            index: See :meth:`position`.

        Returns:
            The sample of the inner dataset's pipeline, with the stream's metainfo.

        Raises:
            FrameError: A file of this frame is broken or does not fit.
        """
        position = self.position(index)
        dataset = self.datasets[position.condition]
        changes = {} if position.severity is None else {'severity': position.severity}
        try:
            if changes:
                sample = dataset.prepare_frame(position.frame, **changes)
            else:
                sample = dataset[position.frame]
        except FrameError as error:
            if not self.mark_bad_frames:
                raise
            sample = self._stand_in(position, changes, error)
        add_metainfo(sample, **self._entries(index, position))
        return sample

    def _stand_in(self, position: StreamPosition, changes: dict, error: FrameError) -> dict:
        """Returns a marked sample for a frame whose image or label cannot be loaded."""
        dataset = self.datasets[position.condition]
        try:
            sample = dataset.prepare_frame(position.frame, seg_map_path=None, **changes)
        except FrameError:
            sample = self._readable(position.condition, error)
            sample['inputs'] = torch.zeros_like(sample['inputs'])
            path = dataset.get_data_info(position.frame)['img_path']
            add_metainfo(sample, img_path=path, frame_fault=str(error))
            return sample
        if not isinstance(error, LabelError):
            add_metainfo(sample, label_fault=str(error))
            return sample
        usual = self._readable(position.condition, error)['data_samples'].ori_shape
        found = sample['data_samples'].ori_shape
        if tuple(usual) == tuple(found):
            raise error  # The label is wrong, not its image: a mistake in the data set.
        add_metainfo(sample, frame_fault=str(error))
        return sample

    def _readable(self, condition: str, error: FrameError) -> dict:
        """The first loadable frame of a condition, without its label."""
        for frame in self._frames[condition]:
            try:
                return self.datasets[condition].prepare_frame(frame, seg_map_path=None)
            except FrameError:
                continue
        raise error


def ramp_severity(place: int, count: int, peak: int) -> int:
    """Returns the severity at one position of a condition with rising and falling severity.

    Args:
        place: 0 to ``count - 1``.
        count: Number of frames of the condition.
        peak: Severity in the middle.

    Returns:
        1 at both ends, ``peak`` in the middle, whole numbers between.
    """
    if count == 1:
        return peak
    # Integer arithmetic gives equal slopes; each severity lasts equally long.
    height = 2 * min(place, count - 1 - place)
    return min(peak, 1 + height * peak // (count - 1))


def _check_count(name: str, value: int) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < 1:
        raise ValueError(f'ContinualStream: {name} must be a whole number from 1 up, not {value!r}')
