"""Conditions by tables of weather and time of day."""

import json

import mmengine.fileio as fileio
import pytest

from ecotta_seg.datasets import BDD100KConditionDataset, SHIFTDataset
from ecotta_seg.datasets.attribute_sets import FrameAttributes
from tests.datasets.driving_files import SHIFT_SEQUENCES, bdd100k, shift


def _names(dataset, key='img_path'):
    infos = [dataset.get_data_info(index) for index in range(len(dataset))]
    return [str(info[key]).rsplit('/', 1)[-1] for info in infos]


def test_a_condition_is_weather_time_or_both(tmp_path):
    bdd100k(tmp_path)
    expected = {
        'rainy': ['0a0a-1.jpg', '0a0a-2.jpg'],
        'night': ['0a0a-2.jpg'],
        'rainy_night': ['0a0a-2.jpg'],
        'partly_cloudy': ['0a0a-4.jpg'],
        'dawn_dusk': ['0a0a-4.jpg'],
        'partly_cloudy_dawn_dusk': ['0a0a-4.jpg'],
    }
    for condition, names in expected.items():
        dataset = BDD100KConditionDataset(condition, data_root=str(tmp_path))
        assert _names(dataset) == names
        assert set(_names(dataset, 'condition')) == {condition}


def test_all_frames_have_the_condition_of_their_own(tmp_path):
    bdd100k(tmp_path)
    dataset = BDD100KConditionDataset(data_root=str(tmp_path))
    assert dict(zip(_names(dataset), _names(dataset, 'condition'))) == {
        '0a0a-1.jpg': 'rainy_daytime',
        '0a0a-2.jpg': 'rainy_night',
        '0a0a-3.jpg': 'snowy_daytime',
        '0a0a-4.jpg': 'partly_cloudy_dawn_dusk',
        '0a0a-5.jpg': 'overcast_daytime',
        '0a0a-6.jpg': 'unknown',
    }


def test_sequences_of_shift(tmp_path):
    shift(tmp_path)
    for condition in ('rainy', 'clear_night', 'dawn_dusk'):
        dataset = SHIFTDataset(condition, data_root=str(tmp_path))
        expected = [
            name
            for name, (weather, time) in SHIFT_SEQUENCES.items()
            if condition in (weather, time.replace('/', '_'), f'{weather}_{time}')
        ]
        assert _names(dataset, 'sequence') == expected and expected


def test_a_table_of_ones_own_and_one_that_changes(tmp_path):
    bdd100k(tmp_path)
    path = tmp_path / 'mine.json'
    for weather in ('rainy', 'foggy'):
        attributes = {'weather': weather, 'timeofday': 'night'}
        document = {'frames': [{'name': '0a0a-6.jpg', 'attributes': attributes}]}
        path.write_text(json.dumps(document, indent=1 if weather == 'foggy' else None))
        dataset = BDD100KConditionDataset(
            weather, data_root=str(tmp_path), attribute_files=('mine.json',)
        )
        assert _names(dataset) == ['0a0a-6.jpg']


def test_a_table_is_read_once_for_all_conditions(tmp_path, monkeypatch):
    bdd100k(tmp_path)
    read = []
    get_text = fileio.get_text
    monkeypatch.setattr(fileio, 'get_text', lambda path, **k: read.append(path) or get_text(path))
    for condition in ('rainy', 'night', 'rainy_night'):
        BDD100KConditionDataset(
            condition, data_root=str(tmp_path), backend_args={'backend': 'local'}
        )
    assert len(read) == len(set(read)) == 3


def test_spelling():
    assert FrameAttributes.of('partly cloudy', 'dawn/dusk').names == (
        'partly_cloudy',
        'dawn_dusk',
        'partly_cloudy_dawn_dusk',
    )


@pytest.mark.parametrize(
    ('break_it', 'arguments', 'words'),
    [
        (None, {'condition': 'hail'}, r"no frame .* condition 'hail'; .*rainy \(2\).*1 frames are"),
        (
            'remove',
            {'condition': 'rainy'},
            r'has no .* and no labels/det_20/det_val.json: download',
        ),
        (None, {'condition': 'rainy', 'attribute_files': ('x.json',)}, 'has no x.json: '),
        ('[{"name": 1', {'condition': 'rainy'}, 'det_val.json: expected a table of weather'),
        ('[{"attributes": {"weather": 1, "timeofday": 2}}]', {}, "table has no 'name'"),
        ('[7]', {}, 'det_val.json: expected a table of weather .* its form differs'),
    ],
)
def test_mistakes_are_one_sentence(tmp_path, break_it, arguments, words):
    bdd100k(tmp_path)
    table = tmp_path / 'labels/det_20/det_val.json'
    if break_it == 'remove':
        for path in (tmp_path / 'labels').rglob('*.json'):
            path.unlink()
    elif break_it:
        table.write_text(break_it)
    with pytest.raises(ValueError, match=words) as raised:
        BDD100KConditionDataset(data_root=str(tmp_path), **arguments)
    assert '\n' not in str(raised.value)


def test_a_table_of_shift_without_its_columns(tmp_path):
    shift(tmp_path)
    (tmp_path / 'images/val/front/seq.csv').write_text('a,b\n1,2\n')
    with pytest.raises(ValueError, match="seq.csv: .* the table has no 'video': download"):
        SHIFTDataset('rainy', data_root=str(tmp_path))
