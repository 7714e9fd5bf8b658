"""Streams and seeds that the tools put into configs."""

from pathlib import Path

import pytest

from ecotta_seg.config import read_config, with_method, with_seed, with_stream

ROOT = Path(__file__).resolve().parents[1]


@pytest.mark.parametrize(
    ('name', 'order'), [('continual', 'sequential'), ('ramp', 'ramp'), ('mixed', 'shuffled')]
)
def test_streams_are_orders(name, order):
    cfg = read_config(ROOT / 'configs' / 'camvid_ecotta.py')
    with_stream(cfg, name, 7)
    dataset = cfg.test_dataloader.dataset
    assert dataset.order == order and dataset.seed == 7
    seeds = [t.seed for t in dataset.dataset.pipeline if t.type == 'AdverseWeather']
    assert seeds == [7]
    with_stream(cfg, None)
    assert dataset.order == order and dataset.seed == 7


def test_other_data_sets_are_refused():
    cfg = read_config(ROOT / 'configs' / 'camvid_ecotta.py')
    with pytest.raises(ValueError, match='expected one of continual, ramp, mixed'):
        with_stream(cfg, 'ramps')
    cfg.test_dataloader.dataset = dict(type='CityscapesDataset')
    with pytest.raises(ValueError, match='needs a ContinualStream'):
        with_stream(cfg, 'ramp')


def test_a_seed_reaches_the_generators_that_methods_own():
    cfg = read_config(ROOT / 'configs' / 'camvid_ecotta.py')
    cfg.adaptation = dict(type='cotta', seed=0)
    with_seed(cfg, 4)
    assert cfg.randomness.seed == 4 and cfg.adaptation.seed == 4
    cfg.adaptation = dict(type='law', method=dict(type='cotta'))
    with_seed(cfg, 5)
    assert cfg.adaptation.method.seed == 5 and 'seed' not in cfg.adaptation


def test_the_norm_of_meta_networks_goes_with_the_model():
    cfg = read_config(ROOT / 'configs' / 'camvid_ecotta_segformer_b0.py')
    with_method(cfg, 'ecotta_plus', ROOT / 'configs')
    assert cfg.adaptation.type == 'ecotta_plus' and cfg.adaptation.meta_networks.norm == 'LN'
    cfg.adaptation = dict(type='law', method=dict(type='ecotta', meta_networks=dict(norm='GN')))
    with_method(cfg, 'ladder', ROOT / 'configs')
    assert cfg.adaptation.meta_networks.norm == 'GN' and cfg.adaptation.meta_networks.ladder
    with_method(cfg, 'tent', ROOT / 'configs')
    assert cfg.adaptation.type == 'tent' and 'meta_networks' not in cfg.adaptation
    cfg = read_config(ROOT / 'configs' / 'camvid_ecotta.py')
    with_method(cfg, 'ecotta_plus', ROOT / 'configs')
    assert cfg.adaptation.meta_networks.norm == 'BN'
