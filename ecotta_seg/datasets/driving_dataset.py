"""A driving data set with Cityscapes' classes, whose files a ``DrivingLayout`` describes."""

import os.path as osp
from typing import Any, Optional

import mmengine.fileio as fileio

from .condition_dataset import LABEL_IDS_END, ConditionDataset, root_hint
from .driving_layout import DrivingLayout
from .label_ids import CITYSCAPES_IDS, label_map_of

_OF_THE_LAYOUT = ('ann_file', 'img_suffix', 'seg_map_suffix')


class DrivingDataset(ConditionDataset):
    """Frames of one condition and split, found with the class's ``LAYOUT``.

    Labels with ids other than Cityscapes' train ids are mapped. A split without labels is predicted
    but not scored.

    Args:
        condition: A condition of the data set; None for all conditions, one after the other.
        split: A split of the data set; None for its default, ``DEFAULT_SPLIT``.
        data_prefix: ``img_path``, the folder of the images, and ``seg_map_path``, the root of the
            labels. Give them only if they differ from the layout. Paths are absolute or relative to
            ``data_root``; ``{split}`` and ``{condition}`` in ``img_path`` are replaced.
        **kwargs: Arguments of :class:`~ecotta_seg.datasets.condition_dataset.ConditionDataset`.

    Raises:
        ValueError: The split or condition is unknown, an option is fixed by the layout, a folder is
            missing or empty, or an image of a labelled split has no label.
    """

    LAYOUT: DrivingLayout
    DEFAULT_SPLIT = 'val'
    remedy_for_others = 'rename them if they belong to the data set'

    def __init__(
        self,
        condition: Optional[str] = None,
        split: Optional[str] = None,
        data_prefix: Optional[dict] = None,
        **kwargs: Any,
    ) -> None:
        name, layout = type(self).__name__, self.LAYOUT
        self.split = self.DEFAULT_SPLIT if split is None else split
        if self.split not in layout.splits:
            raise ValueError(f'{name}: split must be one of {layout.splits}, not {split!r}')
        self.SPLITS = layout.splits
        given = [key for key in _OF_THE_LAYOUT if key in kwargs]
        if given:
            raise ValueError(
                f'{name} finds its files by condition and split: leave out {", ".join(given)}, or '
                'use ACDCDataset or WeatherCityscapesDataset, which take names of files'
            )
        known = [*layout.conditions, *layout.more_conditions]
        if condition is not None and known and condition not in known:
            raise ValueError(
                f'{name}: unknown condition {condition!r}, expected one of {", ".join(known)}'
            )
        prefix = {'img_path': layout.images, 'seg_map_path': '', **(data_prefix or {})}
        super().__init__(condition=condition, data_prefix=prefix, **kwargs)

    def load_data_list(self) -> list:
        """Lists the frames: conditions in the layout's order, frames in each sorted by path.

        Returns:
            One dict per frame, see :class:`ConditionDataset`.
        """
        labelled = self.split in self.LAYOUT.labelled
        labels = (self.data_prefix['seg_map_path'] or '.') if labelled else None
        frames = []
        for condition in self.conditions_to_list():
            images = self.LAYOUT.fill(self.data_prefix['img_path'], self.split, condition)
            frames += self.list_frames(images, labels, condition)
        return frames

    def conditions_to_list(self) -> list[Optional[str]]:
        """The requested condition. If none was requested, all conditions with a folder."""
        if self.condition is not None:
            return [self.condition]
        every = list(self.LAYOUT.conditions)
        images = self.data_prefix['img_path']
        there = [
            condition
            for condition in every
            if fileio.isdir(
                self.LAYOUT.fill(images, self.split, condition), backend_args=self.backend_args
            )
        ]
        return there or every[:1]

    def files_in(self, image_folder: str, condition: Optional[str]) -> list[str]:
        """The files that the split's list names. If there is no list, all files of the folder."""
        if self.LAYOUT.frame_list is None:
            return super().files_in(image_folder, condition)
        path = self.LAYOUT.fill(self.LAYOUT.frame_list, self.split, condition)
        path = osp.join(self.data_root or '', path)
        try:
            text = fileio.get_text(path, backend_args=self.backend_args)
        except (OSError, UnicodeDecodeError):
            raise ValueError(
                f'{type(self).__name__}: the list {path} of the split {self.split!r} cannot be '
                f'read, {self._layout_hint()}'
            ) from None
        folder = f'{self.LAYOUT.images}/'
        names = sorted({line.strip() for line in text.splitlines()} - {''})
        names = [name[len(folder) :] if name.startswith(folder) else name for name in names]
        for name in names:
            image = osp.join(image_folder, name)
            if not self.is_file(image):
                raise ValueError(
                    f'{type(self).__name__}: {path} names the image {image}, which does not '
                    f'exist, {self._layout_hint()}'
                )
        return names

    def frame_stem(self, name: str, condition: Optional[str]) -> Optional[str]:
        """The part of an image's name that its label shares; None for a file of another kind."""
        return self.LAYOUT.frame_of(name.replace('\\', '/'), condition)

    def image_pattern(self, condition: Optional[str]) -> str:
        """The pattern of image names, for messages."""
        return self.LAYOUT.fill(self.LAYOUT.image, self.split, condition, frame='*')

    def label_of(self, label_folder: str, stem: str, condition: Optional[str]) -> dict:
        """The path of a frame's first existing label; ``label_map`` if ids have to be mapped."""
        paths = [
            osp.join(label_folder, self.LAYOUT.fill(pattern, self.split, condition, stem))
            for pattern in self.LAYOUT.labels
        ]
        path = paths[0]
        if len(paths) > 1:
            path = next((p for p in paths if self.is_file(p)), path)
        ids = CITYSCAPES_IDS if path.endswith(LABEL_IDS_END) else self.LAYOUT.label_map
        if ids is None:
            return {'seg_map_path': path}
        return {'seg_map_path': path, 'label_map': label_map_of(ids, self.label_map)}

    def _is_known(self, name: str) -> bool:
        return any(
            self.frame_stem(name, condition) is not None
            for condition in [self.condition, *self.LAYOUT.conditions]
        )

    def _layout_hint(self) -> str:
        layout = self.LAYOUT
        folder = layout.fill(layout.images, self.split, self.condition)
        holds = f'{folder}/{self.image_pattern(self.condition)}'
        if layout.frame_list:
            holds += f' and {layout.fill(layout.frame_list, self.split, self.condition)}'
        return root_hint(self.data_root, holds, layout.variable)
