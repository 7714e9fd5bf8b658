"""Configs of mmseg 0.x, and configs that lack what a tool reads."""

import pytest
from mmengine.config import Config

from ecotta_seg.config import checks as config_checks
from ecotta_seg.config.checks import check_data_root, check_packages, require
from ecotta_seg.config.config import read_config, with_reporting
from ecotta_seg.config.environment import config_from_file
from tests.config.test_config import _load
from tests.tools.conftest import ROOT, error_of, run_tool

OLD = [
    'data = dict(samples_per_gpu=2, test=dict())\n',
    "runner = dict(type='IterBasedRunner')\nevaluation = dict()\n",
    'optimizer_config = dict()\nlr_config = dict()\ncheckpoint_config = dict()\n',
]


@pytest.mark.parametrize('text', OLD)
def test_a_config_of_mmseg_0_is_told(tmp_path, text):
    (tmp_path / 'old.py').write_text(f"model = dict(type='EncoderDecoder')\n{text}")
    with pytest.raises(ValueError, match=r'old\.py is a config of mmseg 0\.x .*mmseg 1\.x'):
        read_config(tmp_path / 'old.py')


@pytest.mark.parametrize(('text', 'name'), [
    ('data = dict(samples_per_gpu=2)\n', r'data\.samples_per_gpu'),
    ("pipe = [dict(type='MultiScaleFlipAug', img_scale=(2, 1), transforms=[])]\n",
     'MultiScaleFlipAug'),
    ("pipe = [dict(type='A', transforms=(dict(type='Collect', keys=['img']),))]\n", 'Collect'),
])  # fmt: skip
def test_what_is_left_of_mmseg_0_in_a_new_config_is_named(tmp_path, text, name):
    (tmp_path / 'mixed.py').write_text(f'test_dataloader = dict()\n{text}')
    with pytest.raises(ValueError, match=rf'mixed\.py is a config of mmseg 0\.x \({name}\)'):
        read_config(tmp_path / 'mixed.py')


def test_variables_with_old_names_are_no_old_config(tmp_path):
    text = "data = 'data/acdc'\nrunner = 3\ntest_dataloader = dict()\ntrain_cfg = dict()\n"
    (tmp_path / 'new.py').write_text(text)
    assert read_config(tmp_path / 'new.py').data == 'data/acdc'
    (tmp_path / 'part.py').write_text("data = 'data/acdc'\nmodel = dict()\n")
    read_config(tmp_path / 'part.py')


def test_what_is_missing_is_named():
    cfg = Config(dict(model=dict(type='X'), test_dataloader=dict(batch_size=1)))
    require(cfg, 'model', 'test_dataloader')
    for name in ('train_cfg', 'test_dataloader.dataset', 'model.backbone.depth'):
        with pytest.raises(ValueError, match=f'has no `{name}`: expected a complete config'):
            require(cfg, 'model', name)


def test_tools_name_what_is_missing(tmp_path):
    (tmp_path / 'c.py').write_text(
        f"_base_ = '{ROOT}/configs/_base_/models/deeplabv3plus_demo.py'\n"
        "adaptation = dict(type='source')\n"
    )
    checkpoint = ROOT / 'data/checkpoints/demo_source.pth'
    run = run_tool('test_tta', tmp_path / 'c.py', checkpoint, '--rounds', 1)
    assert 'c.py has no `test_dataloader.dataset`' in error_of(run)
    run = run_tool('warm_up', tmp_path / 'c.py', checkpoint, '--method', 'ecotta')
    assert 'c.py has no `train_dataloader.dataset`' in error_of(run)


def test_a_config_without_scope_loop_or_evaluator_is_completed(tmp_path):
    (tmp_path / 'c.py').write_text("test_dataloader = dict(dataset=dict(type='X'))\n")
    cfg = _load(tmp_path / 'c.py', 'test_dataloader.batch_size=1')
    with_reporting(cfg)
    assert cfg.default_scope == 'mmseg' and cfg.test_cfg == {}
    assert cfg.test_evaluator.type == 'PerConditionIoU'


def test_the_folder_of_the_data_set_is_looked_up(tmp_path):
    inner = dict(data_root=str(tmp_path))
    cfg = Config(dict(test=dict(dataset=dict(dataset=inner))))
    check_data_root(cfg, 'test')
    for root in ('', 's3://bucket/acdc', None):
        check_data_root(Config(dict(test=dict(data_root=root))), 'test')
    cfg.test.dataset.dataset.data_root = root = str(tmp_path / 'none')
    told = (
        rf'{root} \(of test.dataset.dataset, seen from .*: mend .* test.dataset.dataset.data_root='
    )
    with pytest.raises(ValueError, match=told):
        check_data_root(cfg, 'test')


def test_the_folder_of_the_images_is_looked_up(tmp_path):
    (tmp_path / 'images' / 'val').mkdir(parents=True)
    (tmp_path / 'labels').mkdir()
    (tmp_path / 'video.mp4').touch()

    def check(root, images):
        dataset = dict(data_root=str(root), data_prefix=dict(img_path=images))
        check_data_root(Config(dict(test=dict(dataset=dataset))), 'test')

    for images in ('images/val', str(tmp_path / 'images'), '', None, 'images/{split}/{condition}'):
        check(tmp_path, images)
    check(tmp_path / 'video.mp4', 'images')
    folder = tmp_path / 'images' / 'test'
    with pytest.raises(ValueError, match=f'image folder {folder} does not exist .* images, labels'):
        check(tmp_path, 'images/test')
    with pytest.raises(ValueError, match=f'image folder {tmp_path / "none"} does not exist'):
        check(tmp_path, 'none/{split}_rgb/{condition}')


def test_the_environment_variable_of_the_folder_is_named(tmp_path, monkeypatch):
    (tmp_path / 'c.py').write_text("test = dict(data_root='{{$NO_ROOT:data/none}}')\n")
    cfg = config_from_file(str(tmp_path / 'c.py'))
    with pytest.raises(ValueError, match='data/none .* set the environment variable NO_ROOT, or'):
        check_data_root(cfg, 'test')
    monkeypatch.setenv('NO_ROOT', str(tmp_path))
    cfg = config_from_file(str(tmp_path / 'c.py'))
    cfg.test.data_prefix = dict(img_path='images')
    with pytest.raises(ValueError, match='images does .* correct the environment variable NO_ROOT'):
        check_data_root(cfg, 'test')


@pytest.mark.parametrize(
    ('kind', 'package'),
    [('mmpretrain.ConvNeXt', 'mmpretrain'), ('Mask2FormerHead', 'mmdet'), ('mmdet.X', 'mmdet')],
)
def test_a_package_that_is_missing_is_named(kind, package, monkeypatch):
    """Stand-ins for installed packages: the check must not import them."""
    cfg = Config(dict(model=dict(type='EncoderDecoder', decode_head=[dict(type=kind)])))
    installed = {'mmpretrain', 'mmdet'} - {package}
    monkeypatch.setattr(config_checks, 'find_spec', lambda name: name in installed or None)
    with pytest.raises(ValueError, match=f'a {kind}, which needs {package}.*pip install'):
        check_packages(cfg, 'mine.py')
    monkeypatch.setattr(config_checks, 'find_spec', lambda name: True)
    check_packages(cfg, 'mine.py')


@pytest.mark.parametrize('kind', ['ResNetV1c', 'mmseg.ResNetV1c', 'my_package.Backbone'])
def test_other_names_are_left_to_the_registry(kind):
    check_packages(Config(dict(model=dict(backbone=dict(type=kind)))), 'mine.py')
    check_packages(Config(dict(test_dataloader=dict(type=kind))), 'mine.py')
