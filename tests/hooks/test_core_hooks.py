"""The hooks that adapt and measure, in a real Runner on the tiny project."""

import time
from dataclasses import replace

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.runner import Runner

from ecotta_seg.files.checkpoint import load_source
from ecotta_seg.memory import measure_peak
from ecotta_seg.meta_networks import save_adapters
from ecotta_seg.names.old_names import OldNameWarning
from tests.tools.conftest import project  # noqa: F401  (a fixture)


def _runner(project, tmp_path, hooks, **changes):  # noqa: F811
    cfg = Config.fromfile(project.config)
    for key in ('train_dataloader', 'train_cfg', 'optim_wrapper', 'param_scheduler'):
        cfg[key] = None
    for key in ('val_dataloader', 'val_cfg', 'val_evaluator'):
        cfg[key] = None
    cfg.work_dir, cfg.custom_hooks = str(tmp_path), hooks
    cfg.test_dataloader.dataset.rounds = 1
    cfg.merge_from_dict(changes)
    runner = Runner.from_cfg(cfg)
    load_source(runner.model, project.checkpoint)
    return runner


def test_the_hook_swaps_the_model_once(project, tmp_path):  # noqa: F811
    runner = _runner(project, tmp_path, [dict(type='EcoTTAHook')])
    source = runner.model
    runner.test()
    assert type(runner.model).__name__ == 'EcoTTA'
    assert runner.model.segmentor is source
    adapted = runner.model
    runner.test()
    assert runner.model is adapted


def test_views_for_all_leave_cottas_own_labels(project, tmp_path):  # noqa: F811
    cotta = dict(type='cotta', views=3, optimizer=dict(type='Adam', lr=1e-3))
    for views, expected in ((2, (2, 3)), (None, (3, 3))):
        hooks = [dict(type='SourceReferenceHook', references={}), dict(type='EcoTTAHook')]
        runner = _runner(project, tmp_path / str(views), hooks)
        runner.cfg.adaptation, runner.cfg.views = cotta, views
        runner.call_hook('before_test')
        assert (runner.model.views, runner.model.label_views) == expected
        assert runner.message_hub.get_info('ecotta_seg/views') == expected[0]


def test_adapters_reach_the_method_that_has_meta_networks(project, tmp_path):  # noqa: F811
    plain = _runner(project, tmp_path / 'a', [dict(type='EcoTTAHook')])
    plain.call_hook('before_test')
    with torch.no_grad():
        for parameter in plain.model.adapter_parameters().values():
            parameter += 0.1
    save_adapters(plain.model.encoder, tmp_path / 'adapters.pth')
    hooks = [dict(type='EcoTTAHook', adapters=str(tmp_path / 'adapters.pth'))]
    runner = _runner(project, tmp_path / 'b', hooks)
    runner.cfg.adaptation.reset_every = 1000
    runner.call_hook('before_test')
    assert 'adapters' not in runner.cfg.adaptation
    expected = plain.model.adapter_parameters()
    for name, parameter in runner.model.adapter_parameters().items():
        assert torch.equal(parameter, expected[name]), name
    runner = _runner(project, tmp_path / 'c', hooks)
    runner.cfg.adaptation = dict(type='source')
    with pytest.raises(ValueError, match='goes with a method that has meta networks'):
        runner.call_hook('before_test')


def test_a_hook_without_a_method_says_what_is_missing(project, tmp_path):  # noqa: F811
    runner = _runner(project, tmp_path, [dict(type='EcoTTAHook')])
    runner.cfg.pop('adaptation')
    with pytest.raises(ValueError, match='found no adaptation method'):
        runner.test()


def test_a_checkpoint_of_another_model_is_refused_by_the_hook(project, tmp_path):  # noqa: F811
    runner = _runner(project, tmp_path, [dict(type='EcoTTAHook')])
    state = torch.load(project.checkpoint)
    state['state_dict']['decode_head.conv_seg.weight'] = torch.zeros(3, 8, 1, 1)
    torch.save(state, tmp_path / 'other.pth')
    runner._load_from, runner._has_loaded = str(tmp_path / 'other.pth'), False
    with pytest.raises(ValueError, match=r'differs: decode_head\.conv_seg\.weight'):
        runner.test()


def test_source_and_forgetting_are_those_of_separate_runs(project, tmp_path):  # noqa: F811
    batch = dict(type='batch_norm_statistics', mode='frame')
    hooks = [
        dict(type='SourceReferenceHook', references=dict(batch=batch)),
        dict(type='EcoTTAHook'),
        dict(type='ForgettingHook'),
    ]
    runner = _runner(project, tmp_path / 'a', hooks)
    # A config of an earlier version, run by mmseg's own tools.
    runner.cfg.clear_dataloader = runner.cfg.pop('forgetting_dataloader')
    with pytest.warns(OldNameWarning, match='now called `forgetting_dataloader`'):
        runner.test()
    source = runner.message_hub.get_info('ecotta_seg/source')
    clear = runner.message_hub.get_info('ecotta_seg/clear')

    plain = _runner(project, tmp_path / 'b', [])
    expected = plain.test()
    for name in ('fog', 'night'):
        assert source['conditions'][name]['mIoU'] == pytest.approx(
            expected[f'round1/{name}/mIoU'], abs=1e-9
        )
    plain = _runner(project, tmp_path / 'c', [])
    plain.cfg.test_dataloader = plain.cfg.forgetting_dataloader
    cfg = plain.cfg
    cfg.work_dir = str(tmp_path / 'd')
    again = Runner.from_cfg(cfg)
    load_source(again.model, project.checkpoint)
    assert clear['source'] == pytest.approx(again.test()['mIoU'], abs=1e-9)
    # What is compared with is so by itself, too.
    alone = _runner(project, tmp_path / 'e', [dict(type='EcoTTAHook')])
    alone.cfg.adaptation = dict(type='batch_norm_statistics', mode='frame')
    alone.cfg.test_dataloader = alone.cfg.forgetting_dataloader
    cfg = alone.cfg
    cfg.work_dir = str(tmp_path / 'f')
    alone = Runner.from_cfg(cfg)
    load_source(alone.model, project.checkpoint)
    expected = alone.test()['mIoU']
    assert clear['references'] == {'batch': pytest.approx(expected, abs=1e-9)}
    assert clear['references']['batch'] != clear['source']
    # Identity start and little drift: before the stream the model is near its source.
    assert abs(clear['before'] - clear['source']) < 5


def test_measured_peaks_are_those_of_a_single_step(project, tmp_path):  # noqa: F811
    hooks = [
        dict(type='SourceReferenceHook', references={}),
        dict(type='EcoTTAHook'),
        dict(type='MemoryHook'),
    ]
    runner = _runner(project, tmp_path, hooks)
    runner.test()
    memory = runner.message_hub.get_info('ecotta_seg/memory')
    parameters = runner.model.adaptable_parameters().values()
    adapters = sum(p.numel() * p.element_size() for p in parameters)
    assert memory['gradients_bytes'] == adapters
    # SGD keeps one momentum a parameter.
    assert memory['optimizer_bytes'] == adapters
    batch = next(iter(runner.test_dataloader))
    peak = measure_peak(lambda: runner.model.test_step(batch), 'cpu')
    assert memory['adaptation_peak_bytes'] == peak + memory['optimizer_bytes']
    seconds = runner.message_hub.get_info('ecotta_seg/seconds_per_frame')
    assert np.isfinite(seconds['adaptation']) and seconds['inference'] > 0
    # All frames are of round 1, and the source is predicted on each.
    assert seconds['harness'] is None


def test_time_beside_the_steps_is_told(project, tmp_path):  # noqa: F811
    runner = _runner(project, tmp_path, [dict(type='EcoTTAHook'), dict(type='MemoryHook')])
    waiting = 0.05

    class Waiting(Hook):
        def before_test_iter(self, runner, batch_idx, data_batch=None):
            time.sleep(waiting)

    runner.register_hook(Waiting())
    runner.test()
    seconds = runner.message_hub.get_info('ecotta_seg/seconds_per_frame')
    assert waiting < seconds['harness'] < waiting + 10 * seconds['adaptation'] + 1


def test_kept_copies_are_told(project, tmp_path):  # noqa: F811
    hooks = [
        dict(type='EcoTTAHook'),
        dict(type='GuardHook', check_every=4, window=1, min_agreement=0.1, margin=0.0),
        dict(type='MemoryHook'),
    ]
    runner = _runner(project, tmp_path, hooks)
    runner.test()
    assert not runner.message_hub.get_info('ecotta_seg/events', None)
    memory = runner.message_hub.get_info('ecotta_seg/memory')
    model = runner.model
    adapters = sum(4 * p.numel() for p in model.adaptable_parameters().values())
    buffers = sum(b.numel() * b.element_size() for b in model.buffers())
    # What reset goes back to; the guard's good state: adapters, their momenta and all buffers.
    assert memory['kept_bytes'] == adapters + (2 * adapters + buffers)
    parts = ('parameters_bytes', 'adapters_bytes', 'kept_bytes', 'adaptation_peak_bytes')
    assert memory['total_bytes'] == sum(memory[part] for part in parts)


@pytest.mark.parametrize('in_place', [False, True])
def test_the_plan_is_reported_and_no_gradients_where_none_stand(project, tmp_path, in_place):  # noqa: F811
    hooks = [dict(type='EcoTTAHook'), dict(type='MemoryHook')]
    runner = _runner(project, tmp_path, hooks)
    runner.call_hook('before_test')
    plan_for = runner.model.planner.plan_for

    def planned(inputs, metas):
        found = plan_for(inputs, metas)
        return replace(found, plan=replace(found.plan, update_in_place=in_place))

    runner.model.planner.plan_for = planned
    runner.test()
    memory = runner.message_hub.get_info('ecotta_seg/memory')
    assert memory['plan'].endswith('piece by piece') == in_place
    assert (memory['gradients_bytes'] == 0) == in_place
    assert memory['activations_bytes'] > 0 and memory['budget_bytes'] is None
    assert memory['fallbacks'] == []
    if not in_place:
        assert memory['adaptation_peak_bytes'] == pytest.approx(
            memory['predicted_peak_bytes'], rel=0.2
        )


def test_what_the_engine_does_not_know_is_reported_without_a_plan(project, tmp_path):  # noqa: F811
    hooks = [dict(type='EcoTTAHook'), dict(type='MemoryHook')]
    runner = _runner(project, tmp_path, hooks)
    head = runner.model.decode_head

    class OwnPredict(type(head)):
        """A head may predict in a way of its own."""

        def predict(self, inputs, *args):
            return super().predict(inputs, *args)

    head.__class__ = OwnPredict
    runner.test()
    memory = runner.message_hub.get_info('ecotta_seg/memory')
    assert memory['fallbacks'] == ['whole step, for its decode head (OwnPredict)']
    assert 'plan' not in memory and memory['adaptation_peak_bytes'] > 0


def test_new_layers_are_the_same_in_each_run_without_a_seed(project, tmp_path):  # noqa: F811
    """Else a stopped run of such a config could not be resumed."""
    found, drawn = {}, []
    for seed in (None, 5):
        for number in (1, 2):
            runner = _runner(project, tmp_path / f'{seed}{number}', [dict(type='EcoTTAHook')])
            runner.cfg.randomness = dict(seed=seed)
            torch.manual_seed(number)
            runner.call_hook('before_test')
            drawn.append(float(torch.rand(())))
            (first, *_) = [p for p in runner.model.parameters() if p.requires_grad and p.dim() > 1]
            found[seed, number] = first.detach()
    assert torch.equal(found[None, 1], found[None, 2])
    assert not torch.equal(found[5, 1], found[5, 2]), 'the seed of the run decides'
    torch.manual_seed(1)
    assert drawn[0] == float(torch.rand(())), 'without a seed nothing is drawn from the run'
