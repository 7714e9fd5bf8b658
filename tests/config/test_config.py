"""Configs as the tools read them: names, options, streams, seeds, configs that mmseg knows."""

import argparse
import inspect
from pathlib import Path

import mmseg
import pytest
from mmengine.config import Config
from mmengine.runner import Runner

from ecotta_seg.cli.config_arguments import add_config_arguments, load_config
from ecotta_seg.config.config import (
    READ_NAMES,
    check_names,
    import_custom_modules,
    read_config,
    with_reporting,
)

CONFIGS = Path(__file__).resolve().parents[2] / 'configs'


@pytest.mark.parametrize(('name', 'meant'), [
    ('adaptatoin', 'adaptation'), ('adaption', 'adaptation'), ('custom_hook', 'custom_hooks'),
    ('test_dataloder', 'test_dataloader'), ('forgeting_dataloader', 'forgetting_dataloader'),
    ('clear_dataloders', 'clear_dataloader'),
    ('randomnes', 'randomness'), ('tset_cfg', 'test_cfg'), ('workdir', 'work_dir'),
    ('default_hooks.loger', 'logger'), ('env_cfg.mp_cgf', 'mp_cfg'),
])  # fmt: skip
def test_a_misspelt_name_is_told_with_the_right_one(name, meant):
    cfg = Config()
    cfg.merge_from_dict({name: dict(type='X')})
    with pytest.raises(ValueError, match=f'here: nothing reads {name}; did you mean {meant!r}'):
        check_names(cfg, 'here')


def test_each_argument_of_the_runner_is_known():
    runner = set(inspect.signature(Runner.__init__).parameters) - {'self', 'cfg'}
    assert len(runner) > 15 and runner <= set(READ_NAMES[''])


def test_variables_of_a_configs_own_are_left_alone():
    names = ('data_root', 'crop_size', 'test_pipeline', 'norm_cfg', 'model_2', 'input_scale')
    check_names(Config(dict.fromkeys(names, 1)), 'here')


def test_no_config_of_mmsegs_zoo_is_refused():
    folder = Path(mmseg.__file__).parent / '.mim' / 'configs'
    if not folder.is_dir():
        pytest.skip('the installed mmseg does not bring its configs')
    names = set()
    for path in folder.rglob('*.py'):
        for line in path.read_text(encoding='utf-8').splitlines():
            name, equals, _ = line.partition('=')
            if equals and name.strip().isidentifier() and not line.startswith((' ', '_')):
                names.add(name.strip())
    assert {'model', 'norm_cfg', 'models'} <= names
    check_names(Config(dict.fromkeys(names, 1)), 'the zoo')


def test_a_config_that_exits_is_told(tmp_path):
    (tmp_path / 'exits.py').write_text('import sys\nsys.exit(0)\n')
    with pytest.raises(ValueError, match='exits.py cannot be read: SystemExit'):
        read_config(tmp_path / 'exits.py')


def _load(config, *options):
    parser = argparse.ArgumentParser()
    add_config_arguments(parser, checkpoint=False)
    return load_config(parser.parse_args([str(config), '--cfg-options', *options]))


def test_options_reach_the_config_or_are_refused(tmp_path, capsys):
    (tmp_path / 'a.py').write_text('model = dict(depth=18)\n')
    cfg = _load(tmp_path / 'a.py', 'model.depth=50', 'randomness.seed=3', 'model.parts=[1,2]')
    assert (cfg.model.depth, cfg.randomness.seed, cfg.model.parts) == (50, 3, [1, 2])
    for option in ('modle.depth=50', 'modle=1'):
        with pytest.raises(ValueError, match="the config has no 'modle'"):
            _load(tmp_path / 'a.py', option)
    with pytest.raises(ValueError, match='--cfg-options: nothing reads env_cfg.dist_cgf'):
        _load(tmp_path / 'a.py', 'env_cfg.dist_cgf=1')
    with pytest.raises(ValueError, match=r'a\.py: expected `adaptation` to be a dict'):
        _load(tmp_path / 'a.py', 'adaptation=ecotta')
    for option in ('model.depth', '=3'):
        with pytest.raises(SystemExit) as caught:
            _load(tmp_path / 'a.py', option)
        assert caught.value.code == 2 and 'expected key=value' in capsys.readouterr().err


def test_a_missing_import_is_named_with_the_remedy(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / 'needs.py').write_text('import no_such_library\n')
    for name, missing in (('no_such_module', 'no_such_module'), ('needs', 'no_such_library')):
        cfg = Config(dict(custom_imports=dict(imports=[name])))
        text = f"No module named '{missing}': install the module, or add its folder to"
        with pytest.raises(ValueError, match=text):
            import_custom_modules(cfg)


def _types(entries):
    return [entry['type'] for entry in entries]


def test_reporting_is_added_where_there_is_none():
    cfg = Config(dict(custom_hooks=[dict(type='EcoTTAHook', adapters='a.pth')],
                      test_evaluator=dict(type='IoUMetric')))  # fmt: skip
    with_reporting(cfg)
    assert _types(cfg.custom_hooks).count('EcoTTAHook') == 1
    assert {'ResultsHook', 'SourceReferenceHook', 'MemoryHook'} <= set(_types(cfg.custom_hooks))
    assert _types(cfg.test_evaluator) == ['IoUMetric', 'PerConditionIoU']


def test_a_config_of_ours_stays_as_it_is():
    cfg = read_config(CONFIGS / 'demo.py')
    before = cfg.to_dict()
    with_reporting(cfg)
    assert cfg.to_dict() == before
    # What was left out on purpose stays out; without adaptation the tool has nothing to do.
    cfg.custom_hooks = [dict(type='ResultsHook')]
    with_reporting(cfg)
    assert _types(cfg.custom_hooks) == ['ResultsHook', 'EcoTTAHook']
