"""Cityscapes-layout frames that know their condition."""

import pytest

from ecotta_seg.datasets import WeatherCityscapesDataset


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
