"""Checks labels before a stream starts: wrong labels stop the run, odd labels give a warning."""

import io
import os.path as osp
from collections.abc import Iterator
from typing import Any, Optional

import mmengine.fileio as fileio
import numpy as np
from mmseg.datasets import CityscapesDataset

from ..datasets.inner_datasets import inner_datasets
from ..names.printable import printable
from ..resume.random_state import seeded

# Number of frames to check in each condition.
_SAMPLE = 3
_MOST_IDS_NAMED = 8
_TRAIN_CLASSES = tuple(CityscapesDataset.METAINFO['classes'])


def look_at_labels(runner: Any) -> None:
    """Checks the labels of a few frames of each condition.

    Args:
        runner: The Runner, in ``before_test``.

    Raises:
        ValueError: A label is a colour picture, or holds ids that belong to no class, ids that
            mmseg would truncate to 8 bits, or Cityscapes' 34 ids instead of train ids.
    """
    dataset = runner.test_dataloader.dataset
    classes = (getattr(dataset, 'metainfo', None) or {}).get('classes')
    if not classes or not hasattr(dataset, 'get_data_info'):
        return
    marks = getattr(dataset, 'mark_bad_frames', None)
    try:
        if marks is not None:
            # This check ignores broken files.
            dataset.mark_bad_frames = True
        with seeded(0):
            for condition, indices in _sampled(dataset):
                labels = [_label(dataset, index, classes) for index in indices]
                _warn_of_odd_labels(
                    runner, condition, [label for label in labels if label is not None]
                )
    finally:
        if marks is not None:
            dataset.mark_bad_frames = marks


def _sampled(dataset: Any) -> Iterator[tuple[str, list[int]]]:
    """Indices of a few frames of each condition, evenly spaced over the first round."""
    frames: dict[str, list[int]] = {}
    if hasattr(dataset, 'position'):
        for index in range(getattr(dataset, 'frames_per_round', len(dataset))):
            frames.setdefault(dataset.position(index).condition, []).append(index)
    else:
        frames[''] = list(range(len(dataset)))
    for condition, indices in frames.items():
        chosen = {number * (len(indices) - 1) // max(1, _SAMPLE - 1) for number in range(_SAMPLE)}
        yield condition, [indices[place] for place in sorted(chosen) if indices]


def _label(dataset: Any, index: int, classes: list) -> Optional[np.ndarray]:
    """Returns the distinct ids of a frame's label after the pipeline, with -1 for ignored pixels.

    Returns None if the frame has no label, and raises the errors of ``look_at_labels``.
    """
    info = dataset.get_data_info(index)
    path = info.get('seg_map_path')
    if not path:
        return None
    sample = dataset[index]
    sample = sample.get('data_samples') if isinstance(sample, dict) else None
    if sample is None or isinstance(sample, (list, tuple)) or 'gt_sem_seg' not in sample:
        return None
    label = sample.gt_sem_seg.data.cpu().numpy()
    if label.ndim > 2 and (label.ndim > 3 or label.shape[0] != 1):
        raise ValueError(
            f'{printable(path)}: the label has {label.shape[-1]} channels, but one channel of '
            'class ids is expected: the label is a colour picture, use labels with the ids of '
            'the classes'
        )
    label = label.reshape(label.shape[-2:])
    stored = _stored(path, getattr(dataset, 'backend_args', None))
    _check_depth(path, stored)
    ignored = _ignore_index(dataset)
    values = np.unique(label)
    unknown = [int(v) for v in values if not 0 <= v < len(classes) and v != ignored]
    if unknown:
        named = ', '.join(map(str, unknown[:_MOST_IDS_NAMED]))
        more = len(unknown) - _MOST_IDS_NAMED
        raise ValueError(
            f'{printable(path)}: the label holds the ids '
            f'{named}{f" and {more} more" if more > 0 else ""}, but 0 to {len(classes) - 1} and '
            f'{ignored} (ignored) are expected: use labels with train ids, or map the ids'
        )
    _check_train_ids(path, stored, label, classes)
    return np.where(values == ignored, -1, values.astype(np.int64))


def _ignore_index(dataset: Any) -> int:
    return int(getattr(inner_datasets(dataset)[0], 'ignore_index', 255))


def _stored(path: str, backend_args: Optional[dict]) -> Optional[np.ndarray]:
    """The ids stored in the file; None if the file cannot be read as an image."""
    from PIL import Image

    try:
        with Image.open(io.BytesIO(fileio.get(path, backend_args=backend_args))) as image:
            return np.array(image)
    except Exception:  # Each format has its own errors, and not every label is a picture.
        return None


def _check_depth(path: str, stored: Optional[np.ndarray]) -> None:
    if stored is None or stored.dtype == bool or not (stored != stored.astype(np.uint8)).any():
        return
    value = stored[stored != stored.astype(np.uint8)].flat[0]
    raise ValueError(
        f'{printable(path)}: the label holds the id {value}, but mmseg cuts ids to 8 bits, which '
        'turns the id into another class: write labels of 8 bits with the ids of the classes'
    )


def _check_train_ids(path: str, stored: Optional[np.ndarray], label, classes: list) -> None:
    """Raises if the file's name ends with ``_labelIds`` and the pipeline does not map its ids."""
    named = osp.splitext(osp.basename(path))[0].endswith('_labelIds')
    if not named or tuple(classes) != _TRAIN_CLASSES:
        return
    if stored is not None and stored.shape == label.shape and bool((stored == label).all()):
        raise ValueError(
            f"{printable(path)}: by its name the label has Cityscapes' 34 ids, but its 19 train "
            'ids are expected: use the *_labelTrainIds.png files'
        )


def _warn_of_odd_labels(runner: Any, condition: str, labels: list[np.ndarray]) -> None:
    if not labels:
        return
    values = sorted({int(value) for label in labels for value in label})
    where = f'{condition or "the data set"} ({len(labels)} labels checked)'
    if values == [-1]:
        runner.logger.warning(f'labels of {where}: every pixel is ignored, nothing is scored there')
    elif len(values) == 1:
        runner.logger.warning(
            f'labels of {where}: all pixels have the one id {values[0]}; are these the labels?'
        )
