"""Which frames a config's test goes through."""

from pathlib import Path

import pytest

from ecotta_seg.config.config import read_config
from ecotta_seg.config.stream import with_frames, with_stream, without_missing_clear_day

CONFIGS = Path(__file__).resolve().parents[2] / 'configs'


@pytest.mark.parametrize('name', ['continual', 'ramp', 'mixed'])
def test_streams_are_orders(name):
    cfg = read_config(CONFIGS / 'camvid_severe.py')
    with_stream(cfg, name, 7)
    dataset = cfg.test_dataloader.dataset
    assert dataset.order == name and dataset.seed == 7
    seeds = [t.seed for t in dataset.dataset.pipeline if t.type == 'AdverseWeather']
    assert seeds == [7]
    with_stream(cfg, None)
    assert dataset.order == name and dataset.seed == 7


def test_other_data_sets_are_refused():
    cfg = read_config(CONFIGS / 'camvid_severe.py')
    with pytest.raises(ValueError, match='expected one of continual, ramp, mixed'):
        with_stream(cfg, 'ramps')
    cfg.test_dataloader.dataset = dict(type='CityscapesDataset')
    with pytest.raises(ValueError, match='needs a ContinualStream'):
        with_stream(cfg, 'ramp')


def test_conditions_split_and_number_of_frames():
    cfg = read_config(CONFIGS / 'acdc_ecotta.py')
    before = cfg.to_dict()
    with_frames(cfg)
    assert cfg.to_dict() == before
    with_frames(cfg, ['snow', 'fog'], 'val', 40)
    dataset = cfg.test_dataloader.dataset
    assert dataset.conditions == ['snow', 'fog'] and dataset.frames_per_condition == 40
    assert dataset.dataset.split == 'val' and dataset.rounds == 10
    cfg.test_dataloader.dataset = dict(type='CityscapesDataset')
    with pytest.raises(ValueError, match='needs a ContinualStream'):
        with_frames(cfg, frames=3)


def test_made_weather_and_folders_without_a_split():
    cfg = read_config(CONFIGS / 'camvid_severe.py')
    with_frames(cfg, ['clear', 'snow'])
    assert cfg.test_dataloader.dataset.conditions == ['clear', 'snow']
    with pytest.raises(ValueError, match='--conditions hail: expected some of fog, night, rain'):
        with_frames(cfg, ['fog', 'hail'])
    with pytest.raises(ValueError, match='--split val: the config names the folders of its Weath'):
        with_frames(cfg, split='val')
    # Real frames may be of any condition.
    acdc = read_config(CONFIGS / 'acdc_ecotta.py')
    with_frames(acdc, ['hail'])
    assert acdc.test_dataloader.dataset.conditions == ['hail']


def test_a_clear_day_that_is_not_there_is_left_out(tmp_path, monkeypatch):
    monkeypatch.delenv('CITYSCAPES_ROOT', raising=False)
    monkeypatch.chdir(tmp_path)
    cfg = read_config(CONFIGS / 'acdc_ecotta.py')
    sentence = without_missing_clear_day(cfg)
    assert cfg.forgetting_dataloader is None and 'forgetting is not measured' in sentence
    assert '--cfg-options forgetting_dataloader.dataset.dataset.data_root=DIR' in sentence
    assert without_missing_clear_day(cfg) is None
    # A folder that is there stays, whatever is in the folder.
    (tmp_path / 'data' / 'cityscapes').mkdir(parents=True)
    cfg = read_config(CONFIGS / 'acdc_ecotta.py')
    assert without_missing_clear_day(cfg) is None and cfg.forgetting_dataloader is not None


def test_a_clear_day_that_the_environment_names_stays(tmp_path, monkeypatch):
    monkeypatch.setenv('CITYSCAPES_ROOT', str(tmp_path / 'mistyped'))
    cfg = read_config(CONFIGS / 'acdc_ecotta.py')
    assert without_missing_clear_day(cfg) is None and cfg.forgetting_dataloader is not None
