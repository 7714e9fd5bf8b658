"""The data sets of the field: their own file names, through the configs that users start from."""

import logging
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
from mmengine.config import Config
from mmengine.logging import MMLogger
from mmseg.registry import DATASETS

from ecotta_seg.datasets import (
    DarkZurichConditionDataset,
    FoggyCityscapesDataset,
    FoggyDrivingDataset,
    FoggyZurichDataset,
    MUSESDataset,
)
from ecotta_seg.datasets.checks.frame_error import FrameError
from tests.datasets.driving_files import FIELD, TRAIN_ROWS, rows, write_image, write_label

CONFIGS = Path(__file__).parents[2] / 'configs'
NAMES = [entry.name for entry in FIELD]


@pytest.fixture(params=FIELD, ids=NAMES)
def field(request, tmp_path, monkeypatch):
    """A data set on disk, its root in the environment, and the stream of its config."""
    request.param.write(tmp_path)
    monkeypatch.setenv(request.param.variable, str(tmp_path))
    config = Config.fromfile(CONFIGS / f'_base_/datasets/{request.param.name}_stream.py')
    return request.param, config.test_dataloader.dataset


@pytest.fixture
def warnings():
    """What is logged as a warning."""
    found = []
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: found.append(record.getMessage())
    logger = MMLogger.get_current_instance()
    logger.addHandler(handler)
    yield found
    logger.removeHandler(handler)


def test_frames_conditions_and_labels_through_the_config(field, warnings):
    entry, config = field
    stream = DATASETS.build(config)
    positions = [stream.position(index) for index in range(len(stream))]
    counted = {name: 0 for name in stream.conditions}
    for position in positions:
        counted[position.condition] += 1
    assert counted == entry.frames and list(counted) == list(entry.frames)
    paths = set()
    for index in range(len(stream)):
        sample = stream[index]['data_samples']
        label = sample.gt_sem_seg.data[0].numpy()
        # The label stays at its own resolution, whatever the model is given.
        np.testing.assert_array_equal(label, rows(entry.rows, sample.ori_shape))
        assert sample.metainfo['condition'] == positions[index].condition
        paths.add((sample.img_path, sample.seg_map_path))
    assert len(paths) == len(stream)
    assert not warnings, 'no other image is in these folders'


@pytest.mark.parametrize('name', NAMES)
def test_a_missing_root_says_how_to_set_it(monkeypatch, name):
    entry = FIELD[NAMES.index(name)]
    monkeypatch.setenv(entry.variable, '/nowhere')
    config = Config.fromfile(CONFIGS / f'_base_/datasets/{name}_stream.py')
    with pytest.raises(ValueError, match='/nowhere') as raised:
        DATASETS.build(config.test_dataloader.dataset)
    text = str(raised.value)
    assert entry.variable in text and 'test_dataloader.dataset.dataset.data_root=' in text
    assert '\n' not in text


@pytest.mark.parametrize('name', NAMES)
def test_the_whole_config_names_its_root_and_has_a_source(monkeypatch, name):
    entry = FIELD[NAMES.index(name)]
    monkeypatch.delenv(entry.variable, raising=False)
    config = Config.fromfile(CONFIGS / f'{name}_ecotta.py')
    stream = config.test_dataloader.dataset
    assert stream.dataset.data_root.startswith('data/')
    assert entry.variable in (CONFIGS / f'{name}_ecotta.py').read_text().partition('_base_')[0]
    assert config.forgetting_dataloader.dataset.dataset.type == 'WeatherCityscapesDataset'
    assert stream.dataset.pipeline[1].scale == (960, 540)


@pytest.mark.parametrize('module', ['driving_sets', 'attribute_sets', 'frame_folder'])
def test_registering_beside_classes_of_the_same_name_does_not_fail(module):
    from importlib import reload

    module = import_module(f'ecotta_seg.datasets.{module}')
    before = dict(DATASETS.module_dict)
    try:
        reload(module)
    finally:
        for name, kind in before.items():
            DATASETS.register_module(name=name, force=True, module=kind)
    assert DATASETS.get('DarkZurichDataset').__module__.startswith('mmseg.')


def _write(name, root):
    FIELD[NAMES.index(name)].write(root)
    return str(root)


def test_splits_without_labels_are_predicted(tmp_path, pipeline):
    dataset = DarkZurichConditionDataset(
        split='train', data_root=_write('dark_zurich', tmp_path), pipeline=pipeline, test_mode=True
    )
    conditions = [dataset.get_data_info(index)['condition'] for index in range(len(dataset))]
    assert conditions == ['day', 'twilight', 'night']
    assert all('gt_sem_seg' not in dataset[index]['data_samples'] for index in range(3))
    root = _write('muses', tmp_path / 'muses')
    dataset = MUSESDataset('fog', split='test', data_root=root, pipeline=pipeline, test_mode=True)
    assert len(dataset) == 1 and 'gt_sem_seg' not in dataset[0]['data_samples']


def test_all_conditions_are_those_that_have_a_folder(tmp_path):
    dataset = DarkZurichConditionDataset(data_root=_write('dark_zurich', tmp_path))
    assert [dataset.get_data_info(i)['condition'] for i in range(len(dataset))] == ['night'] * 2
    dataset = MUSESDataset(data_root=_write('muses', tmp_path / 'muses'))
    found = [dataset.get_data_info(i)['condition'] for i in range(len(dataset))]
    assert found[:3] == ['clear_day', 'fog_day', 'rain_day'] and len(set(found)) == 8
    dataset = MUSESDataset('fog', data_root=str(tmp_path / 'muses'))
    assert [Path(dataset.get_data_info(i)['img_path']).parent.name for i in range(2)] == [
        'day',
        'night',
    ]


def test_lists_choose_the_frames_of_a_split(tmp_path, pipeline):
    root = _write('foggy_zurich', tmp_path)
    for split, number, labelled in (('testv1', 1, True), ('medium', 1, False)):
        dataset = FoggyZurichDataset(split=split, data_root=root, pipeline=pipeline, test_mode=True)
        assert len(dataset) == number
        assert ('gt_sem_seg' in dataset[0]['data_samples']) == labelled
    with pytest.raises(
        ValueError, match='RGB_light_.* cannot be read, .* and lists_file_names/RGB_light_'
    ):
        FoggyZurichDataset(split='light', data_root=root)
    (tmp_path / 'RGB/GOPR0119/1508039851.0_frame_000157.png').unlink()
    with pytest.raises(ValueError, match='names the image .*_000157.png, which does not exist'):
        FoggyZurichDataset(data_root=root)
    root = _write('foggy_driving', tmp_path / 'driving')
    dataset = FoggyDrivingDataset(split='testfine', data_root=root, pipeline=pipeline)
    assert Path(dataset.get_data_info(0)['seg_map_path']).name == 'public_001_x_gtFine_labelIds.png'


def test_train_ids_are_taken_where_both_kinds_exist(tmp_path, pipeline):
    root = _write('foggy_cityscapes', tmp_path)
    dataset = FoggyCityscapesDataset('beta_0.01', data_root=root, pipeline=pipeline)
    path = Path(dataset.get_data_info(0)['seg_map_path'])
    assert path.name.endswith('_labelIds.png')
    path.rename(path.with_name('x')).rename(path.with_name(path.name.replace('labelIds', 'label')))
    write_label(path.with_name(path.name.replace('labelIds', 'labelTrainIds')), TRAIN_ROWS)
    dataset = FoggyCityscapesDataset('beta_0.01', data_root=root, pipeline=pipeline)
    label = dataset[0]['data_samples'].gt_sem_seg.data[0].numpy()
    np.testing.assert_array_equal(label, rows(TRAIN_ROWS))


def test_ids_are_mapped_to_chosen_classes(tmp_path, pipeline):
    root = _write('foggy_cityscapes', tmp_path)
    dataset = FoggyCityscapesDataset(
        'beta_0.01',
        data_root=root,
        pipeline=pipeline,
        metainfo={'classes': ('person', 'road')},
    )
    label = dataset[0]['data_samples'].gt_sem_seg.data[0].numpy()
    np.testing.assert_array_equal(label, rows((1, 0, 255, 255)))


def test_an_id_that_cannot_be_mapped_is_refused(tmp_path, pipeline):
    root = _write('foggy_cityscapes', tmp_path)
    dataset = FoggyCityscapesDataset('beta_0.01', data_root=root, pipeline=pipeline, test_mode=True)
    write_label(Path(dataset.get_data_info(0)['seg_map_path']), (7, 34, 7, 7))
    with pytest.raises(FrameError, match='holds the ids 34, which are no ids of the data set'):
        dataset[0]


def test_other_images_are_told(tmp_path, warnings):
    root = _write('foggy_cityscapes', tmp_path)
    write_image(tmp_path / 'leftImg8bit_foggy/val/lindau/lindau_leftImg8bit_foggy_beta_0.03.png')
    FoggyCityscapesDataset('beta_0.01', data_root=root)
    assert len(warnings) == 1 and 'lindau_leftImg8bit_foggy_beta_0.03.png' in warnings[0]
    assert '*_leftImg8bit_foggy_beta_0.01.png' in warnings[0] and 'rename' in warnings[0]


def test_labels_may_have_another_root(tmp_path, pipeline):
    _write('foggy_cityscapes', tmp_path / 'a')
    (tmp_path / 'a/gtFine').rename(tmp_path / 'gtFine')
    dataset = FoggyCityscapesDataset(
        'beta_0.02',
        data_root=str(tmp_path / 'a'),
        data_prefix={'seg_map_path': str(tmp_path)},
        pipeline=pipeline,
    )
    assert 'gt_sem_seg' in dataset[0]['data_samples']


@pytest.mark.parametrize(
    ('arguments', 'words'),
    [
        ({'split': 'dev'}, r"MUSESDataset: split must be one of .*, not 'dev'"),
        ({'condition': 'hail'}, r"unknown condition 'hail', expected one of clear_day, .*snow"),
        ({'img_suffix': '.png'}, 'by condition and split: leave out img_suffix'),
        ({'condition': 'rain_day'}, 'frame_camera/val/rain/day does not exist'),
        ({'condition': 'snow_day'}, r'snow/day holds no \*_frame_camera.png file'),
        (
            {'condition': 'fog_day'},
            'has no label, expected at .*gt_semantic/val/fog/day/REC0000_frame_079714_gt_labelTra',
        ),
    ],
)
def test_mistakes_are_one_sentence(tmp_path, arguments, words):
    root = _write('muses', tmp_path)
    image = tmp_path / 'frame_camera/val/rain/day/REC0000_frame_079714_frame_camera.png'
    image.unlink()
    image.parent.rmdir()
    image = tmp_path / 'frame_camera/val/snow/day/REC0000_frame_079714_frame_camera.png'
    image.rename(image.with_name('other.png'))
    for path in (tmp_path / 'gt_semantic/val/fog/day').iterdir():
        path.unlink()
    with pytest.raises(ValueError, match=words) as raised:
        MUSESDataset(**{'data_root': root, **arguments})
    assert '\n' not in str(raised.value)
