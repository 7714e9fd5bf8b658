"""A folder of pictures as a stream, which is predicted but not scored."""

import os.path as osp
from collections.abc import Sequence
from typing import Any, Optional

from mmseg.registry import DATASETS

from ..names.choices import IMAGE_SUFFIXES
from .condition_dataset import ConditionDataset, root_hint


@DATASETS.register_module(force=True)
class FrameFolderDataset(ConditionDataset):
    """The pictures of a folder and its subfolders, in the order of their paths, without labels.

    Args:
        condition: Name of the condition in tables and plots.
        by_condition: Read only the subfolder with the name of the condition.
        metainfo: ``dict(classes=..., palette=...)`` names the classes of a model that was not
            trained on Cityscapes. Any names are allowed, because there are no labels. Without a
            palette the colours are random.
        **kwargs: Arguments of mmseg's ``CityscapesDataset``.

    Raises:
        ValueError: The folder is missing or holds no pictures, or ``by_condition`` is set without a
            condition.
    """

    def __init__(
        self,
        condition: Optional[str] = None,
        by_condition: bool = False,
        metainfo: Optional[dict] = None,
        **kwargs: Any,
    ) -> None:
        if by_condition and condition is None:
            raise ValueError('FrameFolderDataset: by_condition=True needs a condition')
        self.by_condition = by_condition
        if metainfo and 'classes' in metainfo:
            metainfo = {'palette': [], **metainfo}
        super().__init__(
            condition=condition,
            metainfo=metainfo,
            **{'data_prefix': {'img_path': ''}, 'img_suffix': '', **kwargs},
        )

    @classmethod
    def get_label_map(cls, new_classes: Optional[Sequence] = None) -> None:
        """Returns None: without labels there are no ids to map, so any class names are allowed."""

    def load_data_list(self) -> list:
        """Lists the frames without labels, sorted by path."""
        folder = self.data_prefix['img_path']
        if self.by_condition:
            folder = osp.join(folder, self.condition)
        return self.list_frames(folder, None, self.condition)

    def frame_stem(self, name: str, condition: Optional[str]) -> Optional[str]:
        """The path without its suffix; None for a file that is no picture."""
        stem, ending = osp.splitext(name)
        return stem if ending.lower() in IMAGE_SUFFIXES and name.endswith(self.img_suffix) else None

    def image_pattern(self, condition: Optional[str]) -> str:
        """The pattern of picture names, for messages."""
        return (
            f'*{self.img_suffix}' if self.img_suffix else f'picture ({", ".join(IMAGE_SUFFIXES)})'
        )

    def _layout_hint(self) -> str:
        return root_hint(self.data_root, 'the pictures', 'FRAMES_ROOT')
