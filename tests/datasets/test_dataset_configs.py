"""The dataset configs: roots by environment variable, and loaders that the Runner can build."""

from pathlib import Path

import pytest
from mmengine.config import Config
from mmengine.runner import Runner

from ecotta_seg.config.config import read_config

CONFIGS = Path(__file__).parents[2] / 'configs'
FOLDER = CONFIGS / '_base_/datasets'
LEVELS = {'realistic': 3, 'severe': 5}
LOADERS = ('train_dataloader', 'val_dataloader', 'test_dataloader', 'forgetting_dataloader')


@pytest.fixture
def roots(monkeypatch, cityscapes, acdc):
    """Each variable points somewhere else, so that a mix-up shows."""
    train = cityscapes / 'leftImg8bit/train'
    train.symlink_to(cityscapes / 'leftImg8bit/val')
    (cityscapes / 'gtFine/train').symlink_to(cityscapes / 'gtFine/val')
    monkeypatch.setenv('CITYSCAPES_ROOT', str(cityscapes))
    monkeypatch.setenv('ACDC_ROOT', str(acdc))
    return cityscapes, acdc


def test_acdc_stream(roots):
    cityscapes, acdc = roots
    config = Config.fromfile(FOLDER / 'acdc_stream.py')
    stream = config.test_dataloader.dataset
    assert (stream.rounds, stream.dataset.split) == (10, 'train')
    assert stream.dataset.data_root == str(acdc)
    for name in ('train_dataloader', 'val_dataloader'):
        assert config[name].dataset.data_root == str(cityscapes)
    config.test_dataloader.num_workers = config.forgetting_dataloader.num_workers = 0
    for name, frames in (('test_dataloader', 200), ('forgetting_dataloader', 6)):
        config[name].persistent_workers = False
        loader = Runner.build_dataloader(config[name])
        sample = next(iter(loader))['data_samples'][0]
        assert len(loader) == frames
        assert sample.gt_sem_seg.data.shape == (1, 24, 32) == (1, *sample.ori_shape)
    assert sample.metainfo['condition'] == 'clear'


def test_cityscapes_weather(roots):
    config = Config.fromfile(FOLDER / 'cityscapes_weather.py')
    config.test_dataloader.update(num_workers=0, persistent_workers=False)
    loader = Runner.build_dataloader(config.test_dataloader)
    assert len(loader) == 4 * 10 * 6
    assert loader.dataset[0]['data_samples'].metainfo['condition'] == 'fog'


@pytest.mark.parametrize('name', ['acdc_stream', 'cityscapes_weather', 'camvid_weather'])
def test_loaders_are_complete_and_training_is_clear(monkeypatch, name):
    for variable in ('CITYSCAPES_ROOT', 'ACDC_ROOT', 'CAMVID_ROOT'):
        monkeypatch.delenv(variable, raising=False)
    config = Config.fromfile(FOLDER / f'{name}.py')
    for loader in LOADERS:
        assert loader in config
        dataset = config[loader].dataset
        root = dataset.get('data_root') or dataset.dataset.data_root
        assert root.startswith('data/')
    train = [transform.type for transform in config.train_dataloader.dataset.pipeline]
    assert 'AdverseWeather' not in train and 'RandomCrop' in train
    test = [t.type for t in config.test_dataloader.dataset.dataset.pipeline]
    assert test.index('LoadAnnotations') > test.index('Resize')
    assert config.forgetting_dataloader.dataset.conditions == ('clear',)
    assert config.test_dataloader.sampler.shuffle is False


def test_missing_data_is_one_sentence_with_the_folder(monkeypatch):
    monkeypatch.setenv('CAMVID_ROOT', '/nowhere')
    config = Config.fromfile(FOLDER / 'camvid_weather.py')
    with pytest.raises(ValueError, match='/nowhere/leftImg8bit/test does not exist'):
        Runner.build_dataloader(config.test_dataloader)


def test_the_two_levels_of_camvid_differ_by_severity_alone():
    for model in ('', '_segformer_b0'):
        levels = [read_config(CONFIGS / f'camvid_{name}{model}.py') for name in LEVELS]
        assert [c.test_dataloader.dataset.dataset.severity for c in levels] == list(LEVELS.values())
        first, second = (level.to_dict() for level in levels)
        second['test_dataloader']['dataset']['dataset']['severity'] = LEVELS['realistic']
        assert first == second
