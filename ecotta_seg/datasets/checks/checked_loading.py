"""Loading transforms that report a bad file in one sentence, without a long traceback."""

from collections.abc import Callable
from typing import Optional

import mmengine.fileio as fileio
import numpy as np
from mmcv.transforms import BaseTransform, LoadImageFromFile
from mmengine.dataset import Compose
from mmseg.datasets.transforms import LoadAnnotations

from .frame_error import FrameError, LabelError, check_image_bytes, png_bit_depth, wide_pixel_bits

_MOST_IDS_NAMED = 8
_TRAIN_IDS = 'labels with train ids (in Cityscapes and ACDC *_labelTrainIds.png)'


class CheckedLoadImage(BaseTransform):
    """``LoadImageFromFile`` that accepts only complete, decodable files.

    Args:
        load: The transform that loads the file.
    """

    def __init__(self, load: LoadImageFromFile) -> None:
        self.load = load

    def transform(self, results: dict) -> dict:
        """Loads ``results['img_path']``.

        Args:
            results: Holds ``img_path``.

        Returns:
            ``results`` with ``img`` (H, W, 3) uint8 BGR, ``img_shape`` and ``ori_shape`` (H, W).

        Raises:
            FrameError: The file is missing, empty, truncated or cannot be decoded.
        """
        path = results['img_path']
        _read_whole(path, self.load.backend_args)
        try:
            loaded = self.load(results)
        except Exception:  # Each decoding backend has its own exceptions.
            loaded = None
        if loaded is None or loaded.get('img') is None:
            raise FrameError.at(path, 'the file cannot be decoded as an image')
        return loaded

    def __repr__(self) -> str:
        return f'{type(self).__name__}({self.load})'


class CheckedLoadAnnotations(BaseTransform):
    """``LoadAnnotations`` that checks size and class ids, and skips frames without a label path.

    Args:
        load: The transform that loads the file.
        num_classes: Ids 0 to ``num_classes - 1`` are allowed.
        ignore_index: This id is allowed too.
        decode: Converts the bytes of a label file to (H, W) uint8 ids, for files that ``load``
            cannot read. May raise ``ValueError`` with the reason. ``label_map`` is applied
            afterwards.
    """

    def __init__(
        self,
        load: LoadAnnotations,
        num_classes: int,
        ignore_index: int = 255,
        decode: Optional[Callable[[bytes], np.ndarray]] = None,
    ) -> None:
        self.load = load
        self.decode = decode
        self.num_classes = num_classes
        self.ignore_index = ignore_index
        self._forbidden = np.ones(256, dtype=bool)
        self._forbidden[:num_classes] = False
        self._forbidden[ignore_index] = False

    def transform(self, results: dict) -> dict:
        """Loads ``results['seg_map_path']``; without that key the frame is for prediction only.

        Args:
            results: Holds ``img_path``, ``ori_shape`` and optionally ``seg_map_path``.

        Returns:
            ``results`` with ``gt_seg_map`` (H, W) uint8, at the label's own resolution.

        Raises:
            LabelError: The label differs in size from its image on disk, holds ids that are no
                train ids, or has more than 8 bits per pixel.
            FrameError: The label is missing or broken.
        """
        path = results.get('seg_map_path')
        if path is None:
            return results
        image = results.get('img_path')
        content = _read_whole(path, self.load.backend_args, f' (the label of {image})')
        bits = png_bit_depth(content) or wide_pixel_bits(content)
        if bits is not None and bits > 8:
            # mmseg truncates ids to 8 bits, which makes any id look valid.
            raise LabelError.at(
                path,
                f'the label has {bits} bits a pixel, but 8 are expected: use '
                f'{_TRAIN_IDS}, not instance ids',
            )
        if self.decode is not None:
            self._decode(path, content, results)
        else:
            try:
                results = self.load(results)
            except Exception:  # Each decoding backend has its own exceptions.
                raise FrameError.at(path, f'the label of {image} cannot be decoded') from None
        label = results['gt_seg_map']
        mapped = results.get('label_map') is not None
        self._check(path, image, label, results.get('ori_shape'), mapped)
        return results

    def _decode(self, path: str, content: bytes, results: dict) -> None:
        """Loads a label of another format in the same way as mmseg's ``LoadAnnotations``."""
        try:
            ids = self.decode(content)
        except ValueError as error:
            raise LabelError.at(path, str(error)) from None
        label = ids.copy()
        for old, new in (results.get('label_map') or {}).items():
            label[ids == old] = new
        results['gt_seg_map'] = label
        results['seg_fields'].append('gt_seg_map')

    def _check(self, path: str, image: str, label: np.ndarray, shape: tuple, mapped: bool) -> None:
        if label.ndim != 2:
            raise LabelError.at(
                path,
                f'the label has {label.shape[-1]} channels, but one channel of class ids is '
                f'expected: the label is a colour picture, use {_TRAIN_IDS}',
            )
        if shape is not None and tuple(label.shape) != tuple(shape[:2]):
            raise LabelError.at(
                path,
                f'the label is {label.shape[1]}x{label.shape[0]} pixels but its image {image} '
                f'is {shape[1]}x{shape[0]} (width x height): the two must have the same size',
            )
        if not self._forbidden[label].any():
            return
        ids = [int(value) for value in np.unique(label) if self._forbidden[value]]
        named = ', '.join(map(str, ids[:_MOST_IDS_NAMED]))
        more = f' and {len(ids) - _MOST_IDS_NAMED} more' if len(ids) > _MOST_IDS_NAMED else ''
        if mapped:
            raise LabelError.at(
                path,
                f'the label holds the ids {named}{more}, which are no ids of the data set, so '
                'they cannot be mapped to classes: use the published labels',
            )
        raise LabelError.at(
            path,
            f'the label holds the ids {named}{more}, but 0 to {self.num_classes - 1} and '
            f'{self.ignore_index} (ignored) are expected: use {_TRAIN_IDS}',
        )

    def __repr__(self) -> str:
        return f'{type(self).__name__}({self.load}, num_classes={self.num_classes})'


def _read_whole(path: str, backend_args: dict, what: str = '') -> bytes:
    try:
        content = fileio.get(path, backend_args=backend_args)
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise FrameError.at(path, f'the file{what} cannot be read ({reason})') from None
    check_image_bytes(path, content)
    return content


def checked_pipeline(
    pipeline: Compose,
    num_classes: int,
    ignore_index: int,
    decode: Optional[Callable[[bytes], np.ndarray]] = None,
) -> Compose:
    """Adds checks to the loading transforms of a built pipeline, in place.

    Args:
        pipeline: The pipeline that a dataset built from its config.
        num_classes: See :class:`CheckedLoadAnnotations`.
        ignore_index: See :class:`CheckedLoadAnnotations`.
        decode: See :class:`CheckedLoadAnnotations`.

    Returns:
        The same ``pipeline``.
    """
    for position, transform in enumerate(pipeline.transforms):
        if isinstance(transform, LoadAnnotations):
            transform = CheckedLoadAnnotations(transform, num_classes, ignore_index, decode)
        elif type(transform) is LoadImageFromFile:
            transform = CheckedLoadImage(transform)
        pipeline.transforms[position] = transform
    return pipeline
