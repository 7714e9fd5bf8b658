"""Models whose classes are not those of the data set: scored by name, or refused before a frame."""

import numpy as np
import pytest
import torch
from mmengine.evaluator import BaseMetric
from mmengine.registry import METRICS
from mmseg.datasets import CityscapesDataset
from mmseg.registry import MODELS

from ecotta_seg.files.checkpoint import load_source
from tests.hooks.test_core_hooks import _runner
from tests.tools.conftest import error_of, project, run_tool  # noqa: F401

NAMES = list(CityscapesDataset.METAINFO['classes'])
HOOKS = [
    dict(type='SourceReferenceHook', references={}),
    dict(type='EcoTTAHook'),
    dict(type='ForgettingHook'),
]
KEY = 'decode_head.conv_seg.'


def _checkpoint(project, path, order, names):  # noqa: F811
    """The project's model with some of its outputs, in another order."""
    state = torch.load(project.checkpoint)['state_dict']
    # No two classes are equally likely anywhere: of these the first in order would be chosen.
    torch.manual_seed(1)
    state[KEY + 'bias'] += torch.randn(19) / 100
    state.update({KEY + part: state[KEY + part][order] for part in ('weight', 'bias')})
    meta = {} if names is None else {'dataset_meta': {'classes': names}}
    torch.save({'state_dict': state, 'meta': meta}, path)
    return path


def _run(project, folder, order, names, hooks=HOOKS, **changes):  # noqa: F811
    outputs = {'model.decode_head.num_classes': len(order)}
    runner = _runner_of(project, folder, hooks, **outputs, **changes)
    load_source(runner.model, _checkpoint(project, folder / 'c.pth', order, names))
    runner.test()
    hub = runner.message_hub
    parts = ('source', 'clear')
    return runner.test_evaluator.metrics[0].rounds, [
        hub.get_info(f'ecotta_seg/{part}') for part in parts
    ]


def _runner_of(project, folder, hooks, **changes):  # noqa: F811
    folder.mkdir(exist_ok=True)
    from mmengine.config import Config
    from mmengine.runner import Runner

    cfg = Config.fromfile(project.config)
    for key in ('train_dataloader', 'train_cfg', 'optim_wrapper', 'param_scheduler'):
        cfg[key] = None
    for key in ('val_dataloader', 'val_cfg', 'val_evaluator'):
        cfg[key] = None
    cfg.work_dir, cfg.custom_hooks = str(folder), hooks
    cfg.test_dataloader.dataset.rounds = 1
    cfg.merge_from_dict(changes)
    return Runner.from_cfg(cfg)


def _equal(found, expected):
    """But for the roundings of sums over classes in another order."""
    assert found[1][0] == expected[1][0], 'the source'
    assert found[1][1] == pytest.approx(expected[1][1], abs=0.1)
    for entry, other in zip(found[0], expected[0]):
        for name, scores in entry['conditions'].items():
            assert scores['mIoU'] == pytest.approx(other['conditions'][name]['mIoU'], abs=0.1)


@pytest.fixture
def straight(project, tmp_path):  # noqa: F811
    """The results of the model as it is."""
    return _run(project, tmp_path / 'straight', list(range(19)), NAMES)


def test_another_order_is_matched_by_name(project, tmp_path, straight):  # noqa: F811
    order = [*range(1, 19), 0]
    names = [NAMES[index].upper() for index in order]
    _equal(_run(project, tmp_path / 'a', order, names), straight)


def test_names_in_the_config_go_before_the_checkpoints(project, tmp_path, straight):  # noqa: F811
    order = [*range(1, 19), 0]
    names = [NAMES[index] for index in order]
    _equal(_run(project, tmp_path / 'a', order, list('x' * 19), class_names=names), straight)


@METRICS.register_module(force=True)
class KeepMasks(BaseMetric):
    """All masks and labels of a test."""

    masks = []

    def process(self, data_batch, data_samples):
        for sample in data_samples:
            self.masks.append(sample['pred_sem_seg']['data'].clone())
        self.results.append(None)

    def compute_metrics(self, results):
        return {}


def test_every_metric_gets_the_data_sets_ids(project, tmp_path):  # noqa: F811
    order = [0, 2, 8, 10, 13]
    found = []
    for names in (None, [NAMES[index] for index in order]):
        KeepMasks.masks = []
        hooks = [dict(type='EcoTTAHook')]
        changes = dict(test_evaluator=[dict(type='KeepMasks')])
        if names is None:
            changes['test_dataloader.dataset.dataset.metainfo'] = dict(
                classes=[NAMES[index] for index in order]
            )
        runner = _runner_of(
            project, tmp_path / str(len(found)), hooks,
            **{'model.decode_head.num_classes': 5}, **changes,
        )  # fmt: skip
        path = _checkpoint(project, tmp_path / 'c.pth', order, names)
        load_source(runner.model, path)
        runner.test()
        found.append(np.concatenate([mask.numpy().ravel() for mask in KeepMasks.masks]))
    plain, matched = found
    assert len(np.unique(plain)) > 1 and np.array_equal(np.array(order)[plain], matched)


def test_numbers_that_differ_without_names_are_refused(project, tmp_path):  # noqa: F811
    with pytest.raises(ValueError, match='has 5 classes and the data set 19.*`class_names`'):
        _run(project, tmp_path / 'a', [0, 2, 8, 10, 13], None)


def test_a_clear_day_of_other_classes_is_refused(project, tmp_path):  # noqa: F811
    classes = {'forgetting_dataloader.dataset.dataset.metainfo': dict(classes=NAMES[:5])}
    with pytest.raises(ValueError, match='in the forgetting_dataloader.*its 5 classes differ'):
        _run(project, tmp_path / 'a', list(range(19)), NAMES, **classes)


def test_the_names_reach_mmsegs_own_way_of_loading(project, tmp_path):  # noqa: F811
    order = [*range(1, 19), 0]
    path = _checkpoint(project, tmp_path / 'c.pth', order, [NAMES[index] for index in order])
    runner = _runner(project, tmp_path / 'a', HOOKS)
    runner._load_from, runner._has_loaded = str(path), False
    runner.test()
    table = runner.model.segmentor.class_table
    assert table == order


@pytest.mark.slow
def test_a_warm_up_on_ids_of_another_order_is_refused(project, tmp_path):  # noqa: F811
    order = [*range(1, 19), 0]
    path = _checkpoint(project, tmp_path / 'c.pth', order, [NAMES[index] for index in order])
    run = run_tool('warm_up', project.config, path, '--work-dir', tmp_path)
    assert 'expected training data with the classes of the model in the order' in error_of(run)


def test_a_test_under_autocast_is_refused_before_the_first_frame(project, tmp_path):  # noqa: F811
    with pytest.raises(ValueError, match="test_cfg.fp16=True.*set autocast='bf16'"):
        _runner(project, tmp_path, HOOKS, **{'test_cfg.fp16': True}).test()


TTA = [
    dict(type='LoadImageFromFile'),
    dict(
        type='TestTimeAug',
        transforms=[
            [dict(type='RandomFlip', prob=prob, direction='horizontal') for prob in (0.0, 1.0)],
            [dict(type='LoadAnnotations')],
            [dict(type='PackSegInputs')],
        ],
    ),
]


@pytest.mark.parametrize('hooks', [HOOKS, [dict(type='EcoTTAHook')]])
def test_test_time_augmentation_is_refused(project, tmp_path, hooks):  # noqa: F811
    runner = _runner(project, tmp_path / 'a', hooks)
    runner.model = MODELS.build(dict(type='mmseg.SegTTAModel', module=runner.model))
    with pytest.raises(ValueError, match="this is mmseg's test-time augmentation.*--views N"):
        runner.test()
    pipeline = {'test_dataloader.dataset.dataset.pipeline': TTA}
    runner = _runner(project, tmp_path / 'b', hooks, **pipeline)
    with pytest.raises(ValueError, match="this is mmseg's test-time augmentation.*--views N"):
        runner.test()


def test_a_model_that_is_wrapped_for_augmentation_later_is_refused(
    project, tmp_path  # noqa: F811
):  # fmt: skip
    hook = dict(type='PrepareTTAHook', tta_cfg=dict(type='mmseg.SegTTAModel'))
    with pytest.raises(ValueError, match="this is mmseg's test-time augmentation.*--views N"):
        _runner(project, tmp_path, [dict(type='EcoTTAHook'), hook]).test()
