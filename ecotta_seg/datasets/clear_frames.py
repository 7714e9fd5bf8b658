"""Clear frames for the calibration of a method."""

from collections.abc import Sequence
from copy import deepcopy
from pathlib import Path

import numpy as np
from mmengine.dataset import Compose, default_collate, pseudo_collate
from torch import Tensor, nn
from torch.utils.data import Dataset

# File types of pictures in a folder.
_PICTURES = ('.png', '.jpg', '.jpeg', '.bmp', '.tif', '.tiff', '.webp')

ClearFrames = Sequence[tuple[Tensor, list[dict]]]


def frames_of_dataset(dataset: Dataset, number: int, model: nn.Module) -> ClearFrames:
    """Returns evenly spaced frames of a data set, preprocessed as for a test of the model.

    Args:
        dataset: A data set whose items are packed samples. Labels are not used.
        number: Maximum number of frames.
        model: A segmentor with a data preprocessor.

    Returns:
        For each frame the inputs (1, 3, H, W) and the metainfo.
    """
    places = np.unique(np.linspace(0, len(dataset) - 1, min(number, len(dataset))).astype(int))
    return [_preprocessed(dataset[int(place)], model) for place in places]


def frames_of_folder(
    folder: str, pipeline: Sequence[dict], number: int, model: nn.Module
) -> ClearFrames:
    """Returns evenly spaced pictures of a folder and its subfolders, sorted by path.

    Args:
        folder: Folder with pictures of clear weather, without labels.
        pipeline: The steps of the test, without those that load labels.
        number: Maximum number of pictures.
        model: A segmentor with a data preprocessor.

    Returns:
        See ``frames_of_dataset``.

    Raises:
        ValueError: The folder does not exist, or contains no picture.
    """
    root = Path(folder)
    files = sorted(p for p in root.rglob('*') if p.suffix.lower() in _PICTURES)
    if not files:
        missing = 'holds no picture' if root.is_dir() else 'does not exist'
        raise ValueError(
            f'expected a folder with pictures of clear weather to calibrate on, but {folder} '
            f'{missing}'
        )
    places = np.unique(np.linspace(0, len(files) - 1, min(number, len(files))).astype(int))
    steps = Compose(deepcopy(list(pipeline)))
    samples = (dict(img_path=str(files[place]), seg_fields=[]) for place in places)
    return [_preprocessed(steps(sample), model) for sample in samples]


def _preprocessed(sample: dict, model: nn.Module) -> tuple[Tensor, list[dict]]:
    collate = pseudo_collate if isinstance(sample.get('inputs'), Tensor) else default_collate
    batch = model.data_preprocessor(collate([sample]), False)
    return batch['inputs'], [sample.metainfo for sample in batch['data_samples']]
