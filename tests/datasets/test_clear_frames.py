"""Clear frames against what mmseg's own pipeline and preprocessor give."""

import cv2
import numpy as np
import pytest
import torch
from mmengine.dataset import Compose, pseudo_collate

from ecotta_seg.datasets.clear_frames import frames_of_dataset, frames_of_folder
from tests.segmentors import build_segmentor

PIPELINE = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=(32, 24), keep_ratio=False),
    dict(type='PackSegInputs'),
]


@pytest.fixture
def model():
    return build_segmentor('deeplab')


@pytest.fixture
def folder(tmp_path):
    rng = np.random.default_rng(0)
    (tmp_path / 'drive').mkdir()
    for number in range(5):
        picture = rng.integers(0, 255, (48, 64, 3), dtype=np.uint8)
        cv2.imwrite(str(tmp_path / 'drive' / f'{number}.png'), picture)
    (tmp_path / 'notes.txt').write_text('no picture')
    return tmp_path


def test_pictures_are_read_as_the_test_reads_them(folder, model):
    frames = frames_of_folder(folder, PIPELINE, 3, model)
    assert len(frames) == 3
    for (inputs, metas), name in zip(frames, ('0.png', '2.png', '4.png')):
        sample = Compose(PIPELINE)(dict(img_path=str(folder / 'drive' / name), seg_fields=[]))
        expected = model.data_preprocessor(pseudo_collate([sample]), False)['inputs']
        assert torch.equal(inputs, expected)
        assert metas[0]['img_path'].endswith(name) and metas[0]['ori_shape'] == (48, 64)


def test_fewer_pictures_than_asked_for_are_all_used(folder, model):
    assert len(frames_of_folder(folder, PIPELINE, 12, model)) == 5


def test_a_data_set_is_sampled_evenly(folder, model):
    steps = Compose(PIPELINE)

    class Pictures(torch.utils.data.Dataset):
        def __len__(self):
            return 5

        def __getitem__(self, index):
            path = folder / 'drive' / f'{index}.png'
            return steps(dict(img_path=str(path), seg_fields=[]))

    frames = frames_of_dataset(Pictures(), 2, model)
    names = [metas[0]['img_path'].rpartition('/')[2] for _, metas in frames]
    assert names == ['0.png', '4.png']


def test_a_folder_without_pictures_is_refused(tmp_path, model):
    with pytest.raises(ValueError, match='holds no picture'):
        frames_of_folder(tmp_path, PIPELINE, 3, model)
    with pytest.raises(ValueError, match='does not exist'):
        frames_of_folder(tmp_path / 'none', PIPELINE, 3, model)
