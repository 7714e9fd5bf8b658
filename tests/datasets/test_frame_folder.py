"""A folder of pictures as a data set."""

from pathlib import Path

import pytest
from mmengine.config import Config
from mmseg.registry import DATASETS

from ecotta_seg.datasets import FrameFolderDataset
from tests.datasets.driving_files import write_image

CONFIG = Path(__file__).parents[2] / 'configs/_base_/datasets/frame_folder.py'


@pytest.fixture
def folder(tmp_path):
    """Pictures of three kinds, two of them in subfolders, and a file that is none."""
    for name in ('b.png', 'rain/a.JPG', 'fog/c.bmp'):
        write_image(tmp_path / name)
    (tmp_path / 'notes.txt').write_text('no picture')
    return tmp_path


def _names(dataset):
    root = Path(dataset.data_root)
    infos = [dataset.get_data_info(index) for index in range(len(dataset))]
    return [str(Path(info['img_path']).relative_to(root)) for info in infos]


def test_the_config_streams_all_pictures_without_labels(folder, monkeypatch):
    monkeypatch.setenv('FRAMES_ROOT', str(folder))
    config = Config.fromfile(CONFIG)
    assert 'forgetting_dataloader' not in config
    stream = DATASETS.build(config.test_dataloader.dataset)
    assert len(stream) == 3
    sample = stream[1]['data_samples']
    assert 'gt_sem_seg' not in sample and sample.metainfo['condition'] == 'frames'
    assert _names(stream.datasets['frames']) == ['b.png', 'fog/c.bmp', 'rain/a.JPG']


def test_subfolders_are_conditions_where_that_is_asked_for(folder):
    assert _names(FrameFolderDataset('rain', data_root=str(folder), by_condition=True)) == [
        'rain/a.JPG'
    ]
    assert len(FrameFolderDataset('rain', data_root=str(folder))) == 3
    assert _names(FrameFolderDataset(data_root=str(folder), img_suffix='.png')) == ['b.png']
    with pytest.raises(ValueError, match='by_condition=True needs a condition'):
        FrameFolderDataset(data_root=str(folder), by_condition=True)
    with pytest.raises(ValueError, match='snow does not exist'):
        FrameFolderDataset('snow', data_root=str(folder), by_condition=True)


def test_classes_of_any_model(folder):
    dataset = FrameFolderDataset(
        data_root=str(folder), metainfo={'classes': ('rail', 'signal'), 'palette': [[1, 2, 3]] * 2}
    )
    assert dataset.metainfo['classes'] == ('rail', 'signal') and dataset.label_map is None
    assert dataset.metainfo['palette'] == [[1, 2, 3]] * 2
    dataset = FrameFolderDataset(data_root=str(folder), metainfo={'classes': ('rail', 'signal')})
    assert len(dataset.metainfo['palette']) == 2
    assert len(FrameFolderDataset(data_root=str(folder)).metainfo['palette']) == 19


def test_a_folder_without_pictures(tmp_path, monkeypatch):
    with pytest.raises(ValueError, match=r'holds no picture \(.png.*FRAMES_ROOT') as raised:
        FrameFolderDataset(data_root=str(tmp_path))
    assert '\n' not in str(raised.value)
    monkeypatch.setenv('FRAMES_ROOT', '/nowhere')
    with pytest.raises(ValueError, match='/nowhere.* does not exist.*FRAMES_ROOT.*data_root='):
        DATASETS.build(Config.fromfile(CONFIG).test_dataloader.dataset)
