"""Every config is read and its model built."""

from pathlib import Path

import mmseg.models  # noqa: F401  (registers the models)
import pytest
from mmengine.registry import DefaultScope
from mmseg.registry import MODELS

from ecotta_seg.config.config import read_config
from ecotta_seg.methods import build_method

ROOT = Path(__file__).resolve().parents[1]
CONFIGS = sorted((ROOT / 'configs').glob('*.py'))
METHODS = sorted((ROOT / 'configs' / '_base_' / 'adaptation').glob('*.py'))


def _model(path):
    cfg = read_config(path)
    with DefaultScope.overwrite_default_scope('mmseg'):
        return cfg, MODELS.build(cfg.model)


def test_there_are_configs():
    assert len(CONFIGS) >= 8 and len(METHODS) >= 5


@pytest.mark.slow
@pytest.mark.parametrize('path', CONFIGS, ids=lambda path: path.stem)
def test_a_config_builds(path):
    cfg, model = _model(path)
    header = path.read_text().partition('_base_ =')[0]
    assert header.startswith('#'), 'the header says what it is'
    tools = {'source': 'train', 'tuning': 'benchmark_methods', 'left_out': 'benchmark_methods'}
    tool = next((tools[part] for part in tools if part in path.stem), 'test_tta')
    assert f'tools/{tool}.py' in header and f'configs/{path.name}' in header
    if 'adaptation' in cfg:
        method = build_method(cfg.adaptation, model)
        names = [hook['type'] for hook in cfg.custom_hooks]
        assert 'EcoTTAHook' in names and 'ResultsHook' in names
        added = sum(p.numel() for p in method.adapter_parameters().values())
        assert 0 < added < sum(p.numel() for p in model.parameters())
        assert cfg.test_dataloader.batch_size == 1


@pytest.mark.parametrize('path', METHODS, ids=lambda path: path.stem)
def test_a_method_builds_on_the_demo_model(path):
    _, model = _model(ROOT / 'configs' / 'demo.py')
    adaptation = read_config(path).adaptation
    method = build_method(adaptation, model)
    learns = path.stem != 'source' and not path.stem.startswith('batch_norm')
    assert bool(method.adaptable_parameters()) == learns
