"""ACDC's layout, its unlabelled test split, and what a user gets wrong."""

import shutil

import pytest
from mmseg.registry import DATASETS

from ecotta_seg.datasets import ACDCDataset
from ecotta_seg.datasets.condition_dataset import ConditionDataset


def test_one_condition_sorted_with_condition_and_sequence(acdc, pipeline):
    dataset = ACDCDataset('night', split='train', data_root=str(acdc), pipeline=pipeline)
    infos = [dataset.get_data_info(index) for index in range(len(dataset))]
    paths = [info['img_path'] for info in infos]
    expected = sorted(str(path) for path in (acdc / 'rgb_anon/night/train').rglob('*.png'))
    assert paths == expected and len(paths) == 5
    sample = dataset[0]['data_samples']
    assert sample.metainfo['condition'] == 'night'
    assert [info['sequence'] for info in infos] == ['GP0', 'GP0', 'GP0', 'GP1', 'GP1']
    assert sample.metainfo['sequence'] == 'GP0'
    assert '/gt/night/train/GP0/GP0_frame_000000_gt_labelTrainIds.png' in infos[0]['seg_map_path']
    # The image goes in small, the label stays as it is on disk.
    assert dataset[0]['inputs'].shape == (3, 12, 16)
    assert sample.gt_sem_seg.data.shape == (1, 24, 32)


def test_all_conditions(acdc, pipeline):
    dataset = ACDCDataset(split='train', data_root=str(acdc), pipeline=pipeline)
    conditions = [dataset.get_data_info(index)['condition'] for index in range(len(dataset))]
    assert conditions == ['fog'] * 5 + ['night'] * 5 + ['rain'] * 5 + ['snow'] * 5


def test_test_split_predicts_without_labels(acdc, pipeline):
    dataset = ACDCDataset(
        'rain', split='test', data_root=str(acdc), pipeline=pipeline, test_mode=True
    )
    sample = dataset[0]['data_samples']
    assert len(dataset) == 2
    assert 'gt_sem_seg' not in sample and sample.metainfo['condition'] == 'rain'


def test_split_by_data_prefix(acdc, pipeline):
    prefix = {'img_path': 'rgb_anon/snow/train', 'seg_map_path': 'gt/snow/train'}
    dataset = ACDCDataset(split=None, data_prefix=prefix, data_root=str(acdc), pipeline=pipeline)
    assert len(dataset) == 5 and dataset[4]['data_samples'].metainfo['condition'] == 'snow'


@pytest.mark.parametrize(
    ('arguments', 'words'),
    [
        ({'split': 'training'}, "split must be one of .*'training'"),
        ({'condition': 'sandstorm'}, "unknown condition 'sandstorm'.*fog, night, rain"),
        ({'condition': '../fog'}, 'plain name'),
        (
            {'condition': 'fog', 'split': 'val'},
            'rgb_anon/fog/val does not exist, but the folder of train .*does: --split train',
        ),
        ({'data_root': '/nowhere'}, '/nowhere/rgb_anon does not exist.*data_root'),
        ({'condition': 'night'}, 'rgb_anon/night/train holds no .*_rgb_anon.png file'),
        ({'condition': 'snow'}, "folder .*rgb_anon/snow of the condition 'snow' does not exist"),
        (
            {'condition': 'rain'},
            r'GP0_frame_000002_rgb_anon.png has no label, expected at .*'
            r'gt/rain/train/GP0/GP0_frame_000002_gt_labelTrainIds.png',
        ),
    ],
)
def test_mistakes_are_one_sentence(acdc, arguments, words):
    shutil.rmtree(acdc / 'rgb_anon/snow')
    for path in (acdc / 'rgb_anon/night/train').rglob('*.png'):
        path.unlink()
    (acdc / 'gt/rain/train/GP0/GP0_frame_000002_gt_labelTrainIds.png').unlink()
    with pytest.raises(ValueError, match=words) as raised:
        ACDCDataset(**{'data_root': str(acdc), **arguments})
    assert '\n' not in str(raised.value)


def test_archives_unpacked_as_they_are(acdc, pipeline):
    for archive, folder in (('rgb_anon_trainvaltest', 'rgb_anon'), ('gt_trainval', 'gt')):
        (acdc / archive).mkdir()
        (acdc / folder).rename(acdc / archive / folder)
    # Clear frames of the same places: a split of another name.
    reference = acdc / 'rgb_anon_trainvaltest/rgb_anon/fog/train_ref/GP0'
    reference.mkdir(parents=True)
    (reference / 'GP0_frame_000000_rgb_ref_anon.png').write_bytes(b'')
    dataset = ACDCDataset('fog', split='train', data_root=str(acdc), pipeline=pipeline)
    assert len(dataset) == 5 and dataset[0]['data_samples'].gt_sem_seg is not None
    paths = dataset.get_data_info(0)
    assert '/rgb_anon_trainvaltest/rgb_anon/fog/train/' in paths['img_path']
    assert '/gt_trainval/gt/fog/train/' in paths['seg_map_path']


def test_our_class_takes_the_name_from_another():
    assert DATASETS.get('ACDCDataset') is ACDCDataset
    assert issubclass(ACDCDataset, ConditionDataset)
    try:

        @DATASETS.register_module(name='ACDCDataset', force=True)
        class Upstream:
            pass

        assert DATASETS.get('ACDCDataset') is Upstream
        import importlib

        from ecotta_seg.datasets import acdc as module

        importlib.reload(module)  # Registering beside an upstream class must not fail.
        assert DATASETS.get('ACDCDataset') is module.ACDCDataset
    finally:
        DATASETS.register_module(name='ACDCDataset', force=True, module=ACDCDataset)
