"""BDD100K and SHIFT: driving data sets whose files list the weather and the time of each frame.

A condition is a weather (``'rainy'``), a time of day (``'night'``) or both (``'rainy_night'``).
Underscores replace characters other than letters and digits (``'partly_cloudy'``,
``'dawn_dusk'``).
"""

import csv
import io
import json
import os.path as osp
import re
from collections import Counter
from collections.abc import Mapping
from typing import Any, NamedTuple, Optional

import mmengine.fileio as fileio
from mmengine.logging import print_log
from mmseg.registry import DATASETS

from .driving_dataset import DrivingDataset
from .driving_layout import DrivingLayout
from .label_ids import SHIFT_IDS, ids_in_red


class FrameAttributes(NamedTuple):
    """Weather and time of day of a frame.

    Attributes:
        weather: For example ``'rainy'``.
        time: For example ``'night'``.
    """

    weather: str
    time: str

    @classmethod
    def of(cls, weather: Any, time: Any) -> 'FrameAttributes':
        """Builds the attributes in the spelling of conditions."""
        return cls(*(re.sub(r'[^a-z0-9]+', '_', str(part).lower()) for part in (weather, time)))

    @property
    def names(self) -> tuple[str, str, str]:
        """The conditions of such a frame: weather, time, and both together."""
        return self.weather, self.time, f'{self.weather}_{self.time}'


class AttributeDataset(DrivingDataset):
    """Frames of one condition, which is found in tables of weather and time of day.

    Args:
        condition: A weather, a time of day or both. None for all frames, each with its own
            condition (``'unknown'`` for a frame that is in no table).
        split: See :class:`~ecotta_seg.datasets.driving_dataset.DrivingDataset`.
        attribute_files: Paths of the tables below ``data_root``; ``{split}`` is replaced by the
            split. None takes those files of :attr:`ATTRIBUTE_FILES` that exist.
        **kwargs: Arguments of ``DrivingDataset``.

    Raises:
        ValueError: No table can be read, no frame has the condition, or ``DrivingDataset`` raises.
    """

    ATTRIBUTE_FILES: tuple[str, ...]

    def __init__(
        self,
        condition: Optional[str] = None,
        split: Optional[str] = None,
        attribute_files: Optional[tuple] = None,
        **kwargs: Any,
    ) -> None:
        self.attribute_files = attribute_files
        super().__init__(condition=condition, split=split, **kwargs)

    def load_data_list(self) -> list:
        """Lists the frames, each with its condition."""
        frames = super().load_data_list()
        if self.condition is None:
            known = self._attributes()
            for frame in frames:
                found = known.get(self.attribute_key(frame['img_path']))
                frame['condition'] = found.names[-1] if found else 'unknown'
        return frames

    def conditions_to_list(self) -> list[Optional[str]]:
        """The requested condition, or None for all frames together."""
        return [self.condition]

    def files_in(self, image_folder: str, condition: Optional[str]) -> list[str]:
        """The files of the frames with a condition."""
        files = super().files_in(image_folder, condition)
        if condition is None:
            return files
        known = self._attributes()
        found = {name: known.get(self.attribute_key(name)) for name in files}
        chosen = [name for name, entry in found.items() if entry and condition in entry.names]
        without = sum(entry is None for entry in found.values())
        if files and not chosen:
            counts = Counter(name for entry in found.values() if entry for name in entry.names)
            listed = ', '.join(f'{name} ({count})' for name, count in sorted(counts.items()))
            raise ValueError(
                f'{type(self).__name__}: no frame in {image_folder} has the condition '
                f'{condition!r}; {listed or "no frame"} is in the tables, {without} frames are '
                'in no table'
            )
        if without:
            print_log(
                f'{without} of {len(files)} files in {image_folder} are in no table of weather and '
                f'time of day, so they are not in {condition}',
                'current',
            )
        return chosen

    def attribute_key(self, path: str) -> str:
        """The name under which the tables list the frame of this path."""
        return osp.basename(path)

    def _attributes(self) -> Mapping[str, FrameAttributes]:
        patterns = self.attribute_files or self.ATTRIBUTE_FILES
        names = [self.LAYOUT.fill(pattern, self.split, None) for pattern in patterns]
        paths = [osp.join(self.data_root or '', name) for name in names]
        there = [path for path in paths if self.is_file(path)]
        if not there or (self.attribute_files and len(there) < len(paths)):
            missing = [name for name, path in zip(names, paths) if path not in there]
            raise ValueError(
                f'{type(self).__name__}: weather and time of day of the frames are in a table, but '
                f'{self.data_root!r} has no {" and no ".join(missing)}: download a table, or set '
                'attribute_files'
            )
        found: dict[str, FrameAttributes] = {}
        for path in there:
            found.update(_table(path, self.backend_args))
        return found


# A cache, because a stream has one data set for each condition and BDD100K's tables have up to a
# gigabyte. A changed table is read again.
_TABLES: dict[tuple, Mapping[str, FrameAttributes]] = {}


def _table(path: str, backend_args: Optional[dict]) -> Mapping[str, FrameAttributes]:
    """Reads a table: the attributes of each frame (or sequence), by name."""
    key = (path, osp.getmtime(path) if osp.isfile(path) else None, repr(backend_args))
    if key not in _TABLES:
        text = fileio.get_text(path, backend_args=backend_args)
        try:
            _TABLES[key] = _from_csv(text) if path.endswith('.csv') else _from_json(text)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(
                f'{path}: expected a table of weather and time of day as it is published, but '
                f'{_reason(error)}: download it again'
            ) from None
    return _TABLES[key]


def _reason(error: Exception) -> str:
    if isinstance(error, KeyError):
        return f'the table has no {error}'
    return f'it cannot be read ({error})' if isinstance(error, ValueError) else 'its form differs'


def _from_json(text: str) -> dict[str, FrameAttributes]:
    """Reads BDD100K's labels in Scalabel's format; leaves out frames without attributes."""
    document = json.loads(text)
    frames = document['frames'] if isinstance(document, dict) else document
    return {
        frame['name']: FrameAttributes.of(
            frame['attributes']['weather'], frame['attributes']['timeofday']
        )
        for frame in frames
        if (frame.get('attributes') or {}).keys() >= {'weather', 'timeofday'}
    }


def _from_csv(text: str) -> dict[str, FrameAttributes]:
    """Reads SHIFT's table of sequences."""
    return {
        row['video']: FrameAttributes.of(row['start_weather_coarse'], row['start_timeofday_coarse'])
        for row in csv.DictReader(io.StringIO(text))
    }


@DATASETS.register_module(force=True)
class BDD100KConditionDataset(AttributeDataset):
    """BDD100K's 10k images for semantic segmentation, by weather and time of day.

    Weather: clear, overcast, partly_cloudy, rainy, snowy, foggy, undefined. Time of day: daytime,
    dawn_dusk, night, undefined. BDD100K lists these attributes in the labels of its 100k images,
    but not all of the 10k images are among the 100k. (Yu et al., CVPR 2020.)
    """

    ATTRIBUTE_FILES = (
        *('labels/sem_seg/polygons/sem_seg_{split}.json',),
        *('labels/bdd100k_labels_images_train.json', 'labels/bdd100k_labels_images_val.json'),
        *('labels/det_20/det_train.json', 'labels/det_20/det_val.json'),
    )
    LAYOUT = DrivingLayout(
        images='images/10k/{split}',
        image='{frame}.jpg',
        labels=('labels/sem_seg/masks/{split}/{frame}.png',),
        variable='BDD100K_ROOT',
        splits=('train', 'val', 'test'),
        labelled=('train', 'val'),
    )


@DATASETS.register_module(force=True)
class SHIFTDataset(AttributeDataset):
    """SHIFT's front camera, by the weather and time of day at the start of each sequence.

    Weather: clear, cloudy, overcast, rainy, foggy. Time of day: daytime, dawn_dusk, night. SHIFT
    has one class for all vehicles, so car, truck, bus, train, motorcycle and bicycle are not
    scored. Rider is not scored either, because SHIFT labels riders as pedestrians. (Sun et al.,
    CVPR 2022.)
    """

    decode_label = staticmethod(ids_in_red)
    ATTRIBUTE_FILES = ('images/{split}/front/seq.csv',)
    LAYOUT = DrivingLayout(
        images='images/{split}/front/img',
        image='{frame}_img_front.jpg',
        labels=('images/{split}/front/semseg/{frame}_semseg_front.png',),
        variable='SHIFT_ROOT',
        splits=('train', 'val', 'test'),
        labelled=('train', 'val'),
        label_map=SHIFT_IDS,
    )

    def attribute_key(self, path: str) -> str:
        """The name of the frame's sequence, because SHIFT's table lists sequences."""
        return osp.basename(osp.dirname(path))
