"""Frames with Cityscapes' classes, a condition and a sequence.

The base of :class:`~ecotta_seg.datasets.acdc.ACDCDataset` and
:class:`~ecotta_seg.datasets.weather.weather_cityscapes.WeatherCityscapesDataset`.
"""

import logging
import os.path as osp
from collections.abc import Callable
from pathlib import PurePath
from typing import Any, Optional

import cv2
import mmengine.fileio as fileio
import numpy as np
from mmengine.logging import print_log
from mmseg.datasets import CityscapesDataset

from ..names.choices import IMAGE_SUFFIXES
from ..names.printable import printable
from .checks.checked_loading import checked_pipeline
from .checks.frame_error import FrameError
from .label_ids import CITYSCAPES_IDS, label_map_of

TRAIN_IDS_END, LABEL_IDS_END = '_labelTrainIds.png', '_labelIds.png'


class ConditionDataset(CityscapesDataset):
    """A ``CityscapesDataset`` that adds condition and sequence to each sample and checks files.

    Each data info holds ``condition`` and ``sequence`` (the folder of the image below the split),
    so transforms can read them. Each sample has both in its ``data_samples.metainfo``, for any
    ``meta_keys`` of the packing transform. When files are listed, the class checks that each image
    has a label. When a file is loaded, the class checks the file (see
    :mod:`~ecotta_seg.datasets.checks.checked_loading`).

    Args:
        condition: Name of the condition, for example ``'fog'``.
        missing_labels: ``'error'`` raises if an image has no label. ``'skip'`` predicts such images
            and leaves them out of the scores. ``'some'`` does the same, but raises if no image has
            a label, because the label folder is then wrong; a ``ContinualStream`` sets this value.
        **kwargs: Arguments of mmseg's ``CityscapesDataset``.

    Raises:
        ValueError: An image folder is missing or empty, or an image has no label.
    """

    # Converts the bytes of a label file to (H, W) uint8 ids. None leaves that to LoadAnnotations.
    decode_label: Optional[Callable[[bytes], np.ndarray]] = None

    remedy_for_others = 'set img_suffix, or rename them'
    # The splits of the data set. If a split is missing, the error names the splits that exist.
    SPLITS = ('train', 'val', 'test')

    def __init__(
        self, condition: Optional[str] = None, missing_labels: str = 'error', **kwargs: Any
    ) -> None:
        if missing_labels not in ('error', 'some', 'skip'):
            raise ValueError(
                f"missing_labels must be 'error', 'some' or 'skip', not {missing_labels!r}"
            )
        self.missing_labels = missing_labels
        if condition is not None and (
            not isinstance(condition, str) or not condition or PurePath(condition).name != condition
        ):
            raise ValueError(
                f'condition must be a plain name such as "fog" or "night", not {condition!r}'
            )
        self.condition = condition
        super().__init__(**kwargs)
        # mmseg builds the pipeline in its constructor and loads nothing before this line.
        checked_pipeline(
            self.pipeline, len(self._metainfo['classes']), self.ignore_index, self.decode_label
        )

    def load_data_list(self) -> list:
        """Lists the frames, sorted by path.

        Returns:
            One dict per frame: ``img_path``, ``seg_map_path`` (if there are labels),
            ``condition``, ``sequence`` and mmseg's own keys.
        """
        if self.ann_file:
            frames = super().load_data_list()
            for frame in frames:
                frame['condition'] = self.condition
                frame['sequence'] = osp.basename(osp.dirname(frame['img_path']))
            self._check_labels(frames)
            return frames
        return self.list_frames(
            self.data_prefix.get('img_path'), self.data_prefix.get('seg_map_path'), self.condition
        )

    def list_frames(
        self, image_folder: str, label_folder: Optional[str], condition: Optional[str]
    ) -> list:
        """Lists the frames under one folder, recursively, sorted by path.

        Args:
            image_folder: Holds ``<sequence>/*<img_suffix>``.
            label_folder: Holds ``<sequence>/*<seg_map_suffix>``; None or '' if there are no
                labels.
            condition: Name that is written into each data info.

        Returns:
            The data infos.

        Raises:
            ValueError: The folder is missing or empty, or an image has no label.
        """
        if not fileio.isdir(image_folder, backend_args=self.backend_args):
            raise ValueError(
                f'{type(self).__name__}: the image folder {image_folder} does not exist, '
                f'{self._other_splits(image_folder) or self._layout_hint()}'
            )
        files = self.files_in(image_folder, condition)
        stems = {name: self.frame_stem(name, condition) for name in files}
        names = [name for name in files if stems[name] is not None]
        if not names:
            raise ValueError(
                f'{type(self).__name__}: the image folder {image_folder} holds no '
                f'{self.image_pattern(condition)} file, {self._layout_hint()}'
            )
        self._warn_of_others(image_folder, files, condition)
        frames = []
        for name in names:
            frame = {
                'img_path': osp.join(image_folder, name),
                'label_map': self.label_map,
                'reduce_zero_label': self.reduce_zero_label,
                'seg_fields': [],
                'condition': condition,
                'sequence': osp.basename(osp.dirname(name)),
            }
            if label_folder:
                frame.update(self.label_of(label_folder, stems[name], condition))
            frames.append(frame)
        self._check_labels(frames)
        return frames

    def files_in(self, image_folder: str, condition: Optional[str]) -> list[str]:
        """Sorted relative paths of the files below a folder that may be frames of the condition."""
        return sorted(
            fileio.list_dir_or_file(
                image_folder, list_dir=False, recursive=True, backend_args=self.backend_args
            )
        )

    def frame_stem(self, name: str, condition: Optional[str]) -> Optional[str]:
        """The part of an image's name that its label shares; None for a file of another kind."""
        return name[: -len(self.img_suffix)] if name.endswith(self.img_suffix) else None

    def image_pattern(self, condition: Optional[str]) -> str:
        """The pattern of image names, for messages."""
        return f'*{self.img_suffix}'

    def label_of(self, label_folder: str, stem: str, condition: Optional[str]) -> dict:
        """``seg_map_path`` of a frame's label, and ``label_map`` if ids have to be mapped."""
        return {'seg_map_path': osp.join(label_folder, stem + self.seg_map_suffix)}

    def is_file(self, path: str) -> bool:
        """Whether a file exists, on the disk or on the backend of ``backend_args``."""
        return fileio.isfile(path, backend_args=self.backend_args)

    def _warn_of_others(self, image_folder: str, files: list, condition: Optional[str]) -> None:
        """Warns about images with other names, which are not in the data set."""
        others = [
            name
            for name in files
            if name.lower().endswith(IMAGE_SUFFIXES) and not self._is_known(name)
        ]
        if others:
            print_log(
                f'{len(others)} images in {image_folder} are not named '
                f'{self.image_pattern(condition)} and are left out, {printable(others[0])} first: '
                f'{self.remedy_for_others}',
                'current',
                logging.WARNING,
            )

    def _is_known(self, name: str) -> bool:
        return self.frame_stem(name, self.condition) is not None

    def _has_label(self, frame: dict) -> bool:
        """Whether the label of a frame exists.

        If there is no file with train ids, but a file with Cityscapes' 34 ids in the same folder,
        this file becomes the label.
        """
        path = frame['seg_map_path']
        if self.is_file(path):
            return True
        other = path.removesuffix(TRAIN_IDS_END) + LABEL_IDS_END
        if not path.endswith(TRAIN_IDS_END) or not self.is_file(other):
            return False
        frame['seg_map_path'] = other
        frame['label_map'] = label_map_of(CITYSCAPES_IDS, self.label_map)
        return True

    def _check_labels(self, frames: list) -> None:
        missing = [
            frame for frame in frames if 'seg_map_path' in frame and not self._has_label(frame)
        ]
        in_part = self.missing_labels == 'some' and len(missing) < len(frames)
        if missing and (in_part or self.missing_labels == 'skip'):
            for frame in missing:
                del frame['seg_map_path']
            print_log(
                f'{len(missing)} of {len(frames)} images of {self.condition or "the data set"} '
                f'have no label, {printable(missing[0]["img_path"])} first: they are predicted and '
                'not scored',
                'current',
                logging.WARNING,
            )
        elif missing:
            others = f' (and {len(missing) - 1} more images)' if len(missing) > 1 else ''
            raise ValueError(
                f'{type(self).__name__}: the image {missing[0]["img_path"]} has no label{others}, '
                f'expected at {missing[0]["seg_map_path"]}; if the labels are in another folder, '
                "set data_prefix.seg_map_path; missing_labels='skip' of this data set predicts "
                'such images without scoring them'
            )

    def _other_splits(self, image_folder: str) -> str:
        """The remedy if the split is missing but other splits exist; '' if no split exists."""
        split, parts = getattr(self, 'split', None), image_folder.split('/')
        if split not in parts:
            return ''
        there = [
            other
            for other in self.SPLITS
            if fileio.isdir(
                '/'.join(other if part == split else part for part in parts),
                backend_args=self.backend_args,
            )
        ]
        return f'but the folder of {" and ".join(there)} does: --split {there[0]}' if there else ''

    def _layout_hint(self) -> str:
        return f'set data_root (now {self.data_root!r}) to a dataset in the expected layout'

    def prepare_data(self, idx: int) -> Any:
        """Loads one frame; see :meth:`prepare_frame`."""
        return self.prepare_frame(idx)

    def prepare_frame(self, idx: int, **changes: Any) -> Any:
        """Loads one frame through the pipeline.

        Args:
            idx: Index of the frame in the sorted order.
            **changes: Entries of the data info to replace before the pipeline runs, for example
                ``severity=2``. They apply to this call only.

        Returns:
            The pipeline's sample, with ``condition`` and ``sequence`` in the metainfo.

        Raises:
            FrameError: A file of this frame is broken or does not fit.
        """
        info = {**self.get_data_info(idx), **changes}
        path, condition, sequence = info['img_path'], info['condition'], info['sequence']
        try:
            sample = self.pipeline(info)
        except FrameError:
            raise
        except (cv2.error, ValueError, IndexError, ZeroDivisionError) as error:
            reason = (str(error).strip().splitlines() or [type(error).__name__])[-1]
            raise FrameError.at(path, f'the pipeline failed on this frame ({reason})') from None
        if sample is None and self.test_mode:
            raise FrameError.at(path, 'the pipeline gave no sample for this frame')
        if sample is not None:
            add_metainfo(sample, condition=condition, sequence=sequence)
        return sample


def root_hint(root: Optional[str], holds: str, variable: str) -> str:
    """Returns the text of the remedy if a data set was not found.

    Args:
        root: The ``data_root`` that was searched.
        holds: Expected content of ``data_root``.
        variable: The environment variable for ``data_root`` in this project's configs.
    """
    return (
        f'set data_root (now {root!r}) to the folder that holds {holds}: by the environment '
        f'variable {variable} in the configs of ecotta_seg, or by --cfg-options '
        'test_dataloader.dataset.dataset.data_root=FOLDER'
    )


def add_metainfo(sample: dict, **entries: Any) -> None:
    """Writes entries into a sample's metainfo, in place.

    Args:
        sample: The result of a pipeline. If packed, the metainfo of ``sample['data_samples']`` (of
            each of them, under test-time augmentation) gets the entries. A plain results dict gets
            them as keys.
        **entries: Name and value of each entry.
    """
    data_samples = sample.get('data_samples')
    if data_samples is None:
        sample.update(entries)
        return
    views = data_samples if isinstance(data_samples, (list, tuple)) else [data_samples]
    for view in views:
        view.set_metainfo(entries)
