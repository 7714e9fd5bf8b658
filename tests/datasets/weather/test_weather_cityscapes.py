"""Cityscapes-layout frames that know their condition."""

import cv2
import numpy as np
import pytest

from ecotta_seg.datasets import ACDCDataset, WeatherCityscapesDataset
from ecotta_seg.datasets.label_ids import CITYSCAPES_IDS


def test_condition_severity_and_sequence_reach_pipeline_and_metainfo(cityscapes, pipeline):
    dataset = WeatherCityscapesDataset(
        condition='fog', severity=4, data_root=str(cityscapes), pipeline=pipeline
    )
    info = dataset.get_data_info(5)
    assert (info['condition'], info['severity'], info['sequence']) == ('fog', 4, 'city1')
    metainfo = dataset[5]['data_samples'].metainfo
    assert (metainfo['condition'], metainfo['sequence']) == ('fog', 'city1')


def test_a_name_of_its_own_is_fine_without_made_weather(cityscapes, pipeline):
    dataset = WeatherCityscapesDataset('dusk', data_root=str(cityscapes), pipeline=pipeline)
    assert dataset[0]['data_samples'].metainfo['condition'] == 'dusk'


@pytest.mark.parametrize(
    ('arguments', 'words'),
    [
        ({'condition': 'dusk'}, "unknown condition 'dusk'"),
        ({'condition': 'fog', 'severity': 6}, 'unknown severity 6'),
    ],
)
def test_made_weather_is_checked_at_construction(cityscapes, pipeline, arguments, words):
    pipeline.insert(1, {'type': 'AdverseWeather'})
    with pytest.raises(ValueError, match=words):
        WeatherCityscapesDataset(data_root=str(cityscapes), pipeline=pipeline, **arguments)


def test_jpeg_suffix_missing_folder_and_missing_label(cityscapes):
    with pytest.raises(ValueError, match=r'val holds no \*_leftImg8bit.jpg file'):
        WeatherCityscapesDataset(data_root=str(cityscapes), img_suffix='_leftImg8bit.jpg')
    with pytest.raises(ValueError, match='nowhere/leftImg8bit/val does not exist'):
        WeatherCityscapesDataset(data_root='nowhere')
    for number in (3, 4):
        name = f'city1/city1_{number:04d}_gtFine_labelTrainIds.png'
        (cityscapes / 'gtFine/val' / name).unlink()
    with pytest.raises(ValueError, match='city1_0003_leftImg8bit.png has no label .and 1 more'):
        WeatherCityscapesDataset(data_root=str(cityscapes))


def test_ann_file_picks_frames(cityscapes, pipeline, tmp_path):
    (tmp_path / 'frames.txt').write_text('city1/city1_0004\ncity0/city0_0000\n')
    dataset = WeatherCityscapesDataset(
        'fog', data_root=str(cityscapes), ann_file=str(tmp_path / 'frames.txt'), pipeline=pipeline
    )
    assert [dataset[i]['data_samples'].metainfo['sequence'] for i in (0, 1)] == ['city1', 'city0']


@pytest.mark.parametrize('name', ['cityscapes', 'acdc'])
def test_labels_as_downloaded_are_mapped(name, request, pipeline):
    root, chosen = request.getfixturevalue(name), {'classes': ('pole', 'road')}
    make = {'cityscapes': WeatherCityscapesDataset, 'acdc': ACDCDataset}[name]
    options = dict(data_root=str(root), pipeline=pipeline)
    before = [sample['data_samples'].gt_sem_seg.data for sample in make(**options)]
    before_of_two = make(**options, metainfo=chosen)[0]['data_samples'].gt_sem_seg.data
    own = {train: number for number, train in CITYSCAPES_IDS.items() if train != 255}
    table = np.array([own.get(train, 0) for train in range(256)], np.uint8)
    for path in root.rglob('*_labelTrainIds.png'):
        ids = table[cv2.imread(str(path), cv2.IMREAD_UNCHANGED)]
        cv2.imwrite(str(path).replace('labelTrainIds', 'labelIds'), ids)
        path.unlink()
    after = [sample['data_samples'].gt_sem_seg.data for sample in make(**options)]
    assert len(before) == len(after) > 0 and all((a == b).all() for a, b in zip(before, after))
    after_of_two = make(**options, metainfo=chosen)[0]['data_samples'].gt_sem_seg.data
    assert (before_of_two == after_of_two).all()
