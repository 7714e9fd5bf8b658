"""Tiny datasets in Cityscapes' and ACDC's layout."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from mmengine.registry import DefaultScope

HEIGHT, WIDTH = 24, 32


def write_frame(image: Path, label: Path, seed: int) -> None:
    """Writes a noise image and a label of train ids 0 to 18 and 255."""
    generator = np.random.default_rng(seed)
    for path in (image, label):
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(image), generator.integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8))
    if label is not None:
        ids = generator.integers(0, 20, (HEIGHT, WIDTH), dtype=np.uint8)
        cv2.imwrite(str(label), np.where(ids == 19, 255, ids).astype(np.uint8))


@pytest.fixture(autouse=True)
def scope():
    """Names in configs mean mmseg's, as in every run."""
    with DefaultScope.overwrite_default_scope('mmseg'):
        yield


@pytest.fixture
def cityscapes(tmp_path: Path) -> Path:
    """Two sequences of three frames in the val split."""
    root = tmp_path / 'cityscapes'
    for number in range(6):
        sequence, name = f'city{number // 3}', f'city{number // 3}_{number:04d}'
        write_frame(
            root / 'leftImg8bit/val' / sequence / f'{name}_leftImg8bit.png',
            root / 'gtFine/val' / sequence / f'{name}_gtFine_labelTrainIds.png',
            number,
        )
    return root


@pytest.fixture
def acdc(tmp_path: Path) -> Path:
    """Each condition with five frames in train (two sequences), and two unlabelled in test."""
    root = tmp_path / 'acdc'
    for place, condition in enumerate(('fog', 'night', 'rain', 'snow')):
        for number in range(5):
            sequence, name = f'GP{number % 2}', f'GP{number % 2}_frame_{number:06d}'
            write_frame(
                root / 'rgb_anon' / condition / 'train' / sequence / f'{name}_rgb_anon.png',
                root / 'gt' / condition / 'train' / sequence / f'{name}_gt_labelTrainIds.png',
                10 * place + number,
            )
        for number in range(2):
            name = f'GP9_frame_{number:06d}_rgb_anon.png'
            write_frame(root / 'rgb_anon' / condition / 'test' / 'GP9' / name, None, number)
    return root


@pytest.fixture
def pipeline() -> list:
    """mmseg's stock test pipeline."""
    return [
        {'type': 'LoadImageFromFile'},
        {'type': 'Resize', 'scale': (16, 12), 'keep_ratio': True},
        {'type': 'LoadAnnotations'},
        {'type': 'PackSegInputs'},
    ]
