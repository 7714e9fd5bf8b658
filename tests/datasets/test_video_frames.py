"""A video as a data set, frame by frame."""

import pickle
from pathlib import Path

import cv2
import numpy as np
import pytest
from mmengine.config import Config
from mmseg.registry import DATASETS
from torch.utils.data import DataLoader

from ecotta_seg.datasets import FrameError, VideoFramesDataset
from ecotta_seg.resume.run_identity import data_files

CONFIG = Path(__file__).parents[2] / 'configs/_base_/datasets/video_frames.py'
STEPS = [dict(type='LoadImageFromFile'), dict(type='PackSegInputs')]


def write_video(path, count=6, codec='MJPG', size=(48, 32)):
    """Frame n, up to 7, has the value 30 n everywhere."""
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*codec), 10, size)
    for number in range(count):
        writer.write(np.full((size[1], size[0], 3), 30 * (number % 8), np.uint8))
    writer.release()
    return path


def numbers(samples):
    return [round(float(sample['inputs'].float().mean()) / 30) for sample in samples]


def test_the_config_streams_a_video_without_labels(tmp_path, monkeypatch):
    video = write_video(tmp_path / 'drive.avi')
    monkeypatch.setenv('VIDEO', str(video))
    config = Config.fromfile(CONFIG)
    assert 'forgetting_dataloader' not in config
    stream = DATASETS.build(config.test_dataloader.dataset)
    assert len(stream) == 6
    sample = stream[2]['data_samples']
    assert 'gt_sem_seg' not in sample and sample.metainfo['condition'] == 'video'
    assert sample.metainfo['ori_shape'] == (32, 48)
    assert sample.metainfo['img_path'] == f'{video}/000002'
    assert sample.metainfo['sequence'] == 'drive'


@pytest.mark.parametrize(('ending', 'codec'), [('.avi', 'MJPG'), ('.mp4', 'mp4v')])
def test_each_frame_by_its_number_in_any_order(tmp_path, ending, codec):
    video = write_video(tmp_path / f'drive{ending}', codec=codec)
    dataset = VideoFramesDataset(data_root=str(video), pipeline=STEPS, test_mode=True)
    order = [0, 1, 2, 5, 3, 3, 0, 4]
    assert numbers(dataset[index] for index in order) == order
    again = pickle.loads(pickle.dumps(dataset))
    assert numbers([again[4], dataset[5]]) == [4, 5]
    every = VideoFramesDataset(data_root=str(video), pipeline=STEPS, every=2, test_mode=True)
    assert numbers(every[index] for index in range(len(every))) == [0, 2, 4]


def test_workers_open_the_video_for_themselves(tmp_path):
    dataset = VideoFramesDataset(
        data_root=str(write_video(tmp_path / 'a.avi')), pipeline=STEPS, test_mode=True
    )
    dataset[3]
    loader = DataLoader(dataset, num_workers=2, collate_fn=lambda batch: batch[0])
    assert numbers(loader) == [0, 1, 2, 3, 4, 5]


def test_a_folder_of_videos_in_the_order_of_their_paths(tmp_path):
    (tmp_path / 'b').mkdir()
    write_video(tmp_path / 'b/second.mp4', 2, 'mp4v')
    write_video(tmp_path / 'a.AVI', 3)
    (tmp_path / 'notes.txt').write_text('no video')
    dataset = VideoFramesDataset(data_root=str(tmp_path), pipeline=STEPS, test_mode=True)
    assert numbers(dataset[index] for index in range(5)) == [0, 1, 2, 0, 1]
    assert dataset.get_data_info(3)['sequence'] == 'second'
    # A resumed run notices another video by its size.
    assert {str(tmp_path / 'a.AVI'), str(tmp_path / 'b/second.mp4')} < set(data_files(dataset))


def test_a_video_that_is_cut_off_ends_where_it_is(tmp_path):
    video = write_video(tmp_path / 'a.avi', 40)
    content = video.read_bytes()
    video.write_bytes(content[: len(content) * 2 // 3])
    dataset = VideoFramesDataset(data_root=str(video), pipeline=STEPS, test_mode=True)
    assert 10 < len(dataset) < 40
    dataset[len(dataset) - 1]
    video.write_bytes(content[: len(content) // 3])
    fresh = pickle.loads(pickle.dumps(dataset))
    with pytest.raises(FrameError, match='the video no longer has this frame') as raised:
        fresh[len(dataset) - 1]
    assert raised.value.path == f'{video}/{len(dataset) - 1:06d}'


def test_what_is_no_video(tmp_path, monkeypatch):
    (tmp_path / 'a.mp4').write_bytes(b'no video')
    for root, text in (
        (tmp_path / 'a.mp4', 'cannot be read as a video'),
        (tmp_path / 'none.mp4', r'does not exist, set data_root .*VIDEO'),
        (tmp_path / 'empty', r'holds no video \(.mp4'),
    ):
        (tmp_path / 'empty').mkdir(exist_ok=True)
        with pytest.raises(ValueError, match=text) as raised:
            VideoFramesDataset(data_root=str(root), pipeline=STEPS)
        assert '\n' not in str(raised.value)
    with pytest.raises(ValueError, match='expected every from 1'):
        VideoFramesDataset(data_root=str(tmp_path), every=0)
    monkeypatch.setenv('VIDEO', '/nowhere.mp4')
    with pytest.raises(ValueError, match=r'/nowhere.mp4 does not exist.*VIDEO'):
        DATASETS.build(Config.fromfile(CONFIG).test_dataloader.dataset)
