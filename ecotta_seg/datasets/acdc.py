"""ACDC: real fog, night, rain and snow with Cityscapes' classes (Sakaridis et al., ICCV 2021)."""

import os.path as osp
from typing import Any, Optional

import mmengine.fileio as fileio
from mmseg.registry import DATASETS

from .condition_dataset import ConditionDataset, root_hint

ACDC_CONDITIONS = ('fog', 'night', 'rain', 'snow')
_SPLITS = ('train', 'val', 'test')
# The folders of images and labels, and their parent folders in the unpacked archives.
_FOLDERS = {'img_path': 'rgb_anon', 'seg_map_path': 'gt'}
_ARCHIVES = {'img_path': 'rgb_anon_trainvaltest', 'seg_map_path': 'gt_trainval'}


# `force`: mmseg 1.2.2 and onedl-mmsegmentation 1.4.2 have no class of this name, but a later
# version may. This project's configs need this class (they pass `condition` and `split`), and the
# import must not fail with such an mmseg. So this class takes the name; the class of mmseg remains
# importable from mmseg.datasets.
@DATASETS.register_module(name='ACDCDataset', force=True)
class ACDCDataset(ConditionDataset):
    """The ACDC dataset, or any dataset in its layout.

    The images are ``rgb_anon/<condition>/<split>/<sequence>/*_rgb_anon.png``, and the labels are
    ``gt/<condition>/<split>/<sequence>/*_gt_labelTrainIds.png``. These folders may also be inside
    the folders of the archives, ``rgb_anon_trainvaltest/rgb_anon`` and ``gt_trainval/gt``. The
    labels of ACDC's test split are not public, so this split is loaded without labels; its frames
    are predicted and not scored.

    Args:
        condition: Folder name of one condition, or None for all in ``rgb_anon``, in sorted order.
        split: ``'train'``, ``'val'`` or ``'test'``. None if ``data_prefix`` itself names the folder
            to read, for example ``dict(img_path='rgb_anon/fog/val', seg_map_path='gt/fog/val')``.
            The condition is then the argument ``condition`` or, if that is None, the folder in the
            path that has the name of a condition of ACDC.
        data_prefix: Image and label folders under ``data_root``. If ``split`` is given, these are
            the folders that contain the folders of the conditions.
        img_suffix: End of an image's name.
        seg_map_suffix: End of a label's name.
        **kwargs: Arguments of mmseg's ``CityscapesDataset``.

    Raises:
        ValueError: The split or condition is unknown, a folder is missing or empty, or an image of
            train or val has no label.
    """

    def __init__(
        self,
        condition: Optional[str] = None,
        split: Optional[str] = 'train',
        data_prefix: Optional[dict] = None,
        img_suffix: str = '_rgb_anon.png',
        seg_map_suffix: str = '_gt_labelTrainIds.png',
        **kwargs: Any,
    ) -> None:
        if split is not None and split not in _SPLITS:
            raise ValueError(f'ACDCDataset: split must be one of {_SPLITS} or None, not {split!r}')
        self.split = split
        super().__init__(
            condition=condition,
            data_prefix=data_prefix or _unpacked(kwargs),
            img_suffix=img_suffix,
            seg_map_suffix=seg_map_suffix,
            **kwargs,
        )

    def load_data_list(self) -> list:
        """Lists the frames: conditions in sorted order, frames in each sorted by path.

        Returns:
            One dict per frame, see :class:`ConditionDataset`.
        """
        if self.ann_file:
            return super().load_data_list()
        images, labels = self.data_prefix['img_path'], self.data_prefix.get('seg_map_path')
        if self.split is None:
            condition = self.condition or _condition_in(images)
            return self.list_frames(images, labels, condition)
        frames = []
        for condition in self._conditions(images):
            label_folder = osp.join(labels, condition, self.split) if labels else None
            if label_folder and self.split == 'test' and not self._is_folder(label_folder):
                label_folder = None
            frames += self.list_frames(
                osp.join(images, condition, self.split), label_folder, condition
            )
        return frames

    def _conditions(self, images: str) -> list:
        if not self._is_folder(images):
            raise ValueError(
                f'ACDCDataset: the image folder {images} does not exist, {self._layout_hint()}'
            )
        there = sorted(
            name
            for name in fileio.list_dir_or_file(
                images, list_file=False, backend_args=self.backend_args
            )
            if self._is_folder(osp.join(images, name))
        )
        if self.condition is None:
            # Folders of another kind (for example reference images) have no such split.
            found = [name for name in there if self._is_folder(osp.join(images, name, self.split))]
            if not found:
                raise ValueError(
                    f'ACDCDataset: {images} holds no <condition>/{self.split} folder, '
                    f'{self._layout_hint()}'
                )
            return found
        if self.condition not in there:
            if self.condition in ACDC_CONDITIONS:
                raise ValueError(
                    f'ACDCDataset: the folder {osp.join(images, self.condition)} of the condition '
                    f'{self.condition!r} does not exist, {self._layout_hint()}'
                )
            raise ValueError(
                f'ACDCDataset: unknown condition {self.condition!r}, {images} holds '
                f'{", ".join(there) or "none"}'
            )
        return [self.condition]

    def _is_folder(self, path: str) -> bool:
        return fileio.isdir(path, backend_args=self.backend_args)

    def _layout_hint(self) -> str:
        images = f'rgb_anon/<condition>/{self.split or "<split>"}/<sequence>/*{self.img_suffix}'
        return root_hint(self.data_root, f'{images} and gt/', 'ACDC_ROOT')


def _unpacked(options: dict) -> dict:
    """The image and label folders under a data root, directly or inside the archives' folders."""
    root, args = options.get('data_root') or '', options.get('backend_args')
    found = {}
    for key, folder in _FOLDERS.items():
        inner = osp.join(_ARCHIVES[key], folder)
        there = [
            name for name in (folder, inner)
            if fileio.isdir(osp.join(root, name), backend_args=args)
        ]  # fmt: skip
        found[key] = there[0] if there else folder
    return found


def _condition_in(folder: str) -> str:
    parts = [part for part in folder.replace('\\', '/').split('/') if part in ACDC_CONDITIONS]
    return parts[-1] if parts else ''
