"""Writes any dataset in Cityscapes' layout with adverse weather, in ACDC's layout."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Optional

from mmcv.transforms import LoadImageFromFile
from mmseg.datasets.transforms import LoadAnnotations

from ...files.atomic_io import atomic_write, atomic_write_text
from ...files.png_file import atomic_write_png
from ..acdc import ACDC_CONDITIONS
from .adverse_weather import AdverseWeather
from .weather_cityscapes import WeatherCityscapesDataset

_IMAGE_SUFFIXES = ('_leftImg8bit.png', '_leftImg8bit.jpg')
_LABEL_SUFFIX = '_gtFine_labelTrainIds.png'
# Holds the settings of the dataset, so that a resumed run cannot mix two kinds of weather.
_SETTINGS = 'make_adverse.json'


class AdverseWriter:
    """Writes a dataset frame by frame.

    ``IN/leftImg8bit/<split>/<sequence>/<frame>_leftImg8bit.png`` becomes
    ``OUT/rgb_anon/<condition>/<split>/<sequence>/<frame>_rgb_anon.png``, with its label in
    ``OUT/gt/<condition>/<split>/<sequence>/<frame>_gt_labelTrainIds.png``. The pixels are the
    same as from :class:`~ecotta_seg.datasets.AdverseWeather` in a pipeline. Each file is either
    complete or absent, and each label is written before its image.

    Args:
        source: Root of the dataset in Cityscapes' layout.
        target: Root of the dataset to write.
        conditions: Some of fog, night, rain and snow.
        severity: 1 (light) to 5 (severe).
        splits: Folder names under ``leftImg8bit``.
        seed: Seed of the transform.
        img_suffix: End of an image's name; None finds ``_leftImg8bit.png`` or ``.jpg``.
        resume: Continue in a folder of an earlier run with the same settings.

    Raises:
        ValueError: A condition, severity or split is unknown, source files are broken or missing,
            or ``target`` is not empty or was begun with other settings.
    """

    def __init__(
        self,
        source: str,
        target: str,
        conditions: Sequence[str] = ACDC_CONDITIONS,
        severity: int = 5,
        splits: Sequence[str] = ('val',),
        seed: int = 0,
        img_suffix: Optional[str] = None,
        resume: bool = False,
    ) -> None:
        unknown = [name for name in conditions if name not in ACDC_CONDITIONS]
        if unknown or not conditions:
            raise ValueError(
                f'unknown condition {", ".join(map(repr, unknown)) or "(none given)"}, expected '
                f'some of {", ".join(ACDC_CONDITIONS)}'
            )
        self.source, self.target = Path(source), Path(target)
        suffix = img_suffix or _find_suffix(self.source, splits)
        self._jobs = [
            (split, condition, self._dataset(split, condition, severity, seed, suffix))
            for split in dict.fromkeys(splits)
            for condition in dict.fromkeys(conditions)
        ]
        self._img_suffix = suffix
        self._settings = {
            'source': self.source.resolve().name,
            'severity': severity,
            'seed': seed,
            'img_suffix': suffix,
        }
        self._prepare_target(resume)

    def _dataset(
        self, split: str, condition: str, severity: int, seed: int, suffix: str
    ) -> WeatherCityscapesDataset:
        return WeatherCityscapesDataset(
            condition=condition,
            severity=severity,
            data_root=str(self.source),
            data_prefix={'img_path': f'leftImg8bit/{split}', 'seg_map_path': f'gtFine/{split}'},
            img_suffix=suffix,
            test_mode=True,
            pipeline=[
                LoadImageFromFile(),
                LoadAnnotations(),
                AdverseWeather(seed=seed),
            ],
        )

    def _prepare_target(self, resume: bool) -> None:
        settings = self.target / _SETTINGS
        if self.target.exists() and not self.target.is_dir():
            raise ValueError(f'{self.target} is a file, give a folder to write the dataset to')
        if self.target.is_dir() and any(self.target.iterdir()):
            if not resume:
                raise ValueError(
                    f'{self.target} is not empty, give another folder or --resume to continue a '
                    'dataset that was begun there'
                )
            if not settings.is_file():
                raise ValueError(
                    f'{self.target} holds no {_SETTINGS}, so it was not begun by this tool: give '
                    'another folder'
                )
            try:
                begun = json.loads(settings.read_text(encoding='utf-8'))
            except ValueError:
                begun = None
            if begun != self._settings:
                raise ValueError(
                    f'{self.target} was begun with {begun}, not with {self._settings}: give the '
                    'same settings or another folder'
                )
        atomic_write_text(settings, json.dumps(self._settings) + '\n')

    def __len__(self) -> int:
        return sum(len(dataset) for _, _, dataset in self._jobs)

    def write(self) -> Iterator[bool]:
        """Writes the frames one by one.

        Yields:
            For each frame, whether this run wrote it (False: it already existed).

        Raises:
            FrameError: A source file is broken.
            OSError: A file cannot be written.
        """
        for split, condition, dataset in self._jobs:
            for index in range(len(dataset)):
                yield self._write_frame(split, condition, dataset, index)

    def _write_frame(
        self, split: str, condition: str, dataset: WeatherCityscapesDataset, index: int
    ) -> bool:
        info = dataset.get_data_info(index)
        folder = self.source / 'leftImg8bit' / split
        name = str(Path(info['img_path']).relative_to(folder))[: -len(self._img_suffix)]
        image = self.target / 'rgb_anon' / condition / split / f'{name}_rgb_anon.png'
        label = self.target / 'gt' / condition / split / f'{name}_gt_labelTrainIds.png'
        if image.is_file() and label.is_file():
            return False
        frame = dataset[index]
        with atomic_write(label) as temporary:
            temporary.write_bytes(Path(info['seg_map_path']).read_bytes())
        atomic_write_png(image, frame['img'])
        return True


def _find_suffix(source: Path, splits: Sequence[str]) -> str:
    for suffix in _IMAGE_SUFFIXES:
        for split in splits:
            if any((source / 'leftImg8bit' / split).rglob(f'*{suffix}')):
                return suffix
    return _IMAGE_SUFFIXES[0]  # No image found: the dataset raises the error.
