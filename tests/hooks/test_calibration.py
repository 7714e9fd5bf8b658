"""Which clear frames EcoTTAHook shows to a method, in a real Runner on the tiny project."""

from copy import deepcopy

import cv2
import numpy as np
import pytest
import torch
from mmengine.hooks import Hook

from ecotta_seg.layers.calibrated_batch_norm import ESTIMATED_DRIFT, calibrated_norms
from ecotta_seg.meta_networks import save_adapters
from ecotta_seg.methods import EcoTTAPlus
from tests.hooks.test_core_hooks import _runner
from tests.tools.conftest import project  # noqa: F401  (a fixture)

CALIBRATED = dict(type='batch_norm_statistics', mode='calibrated')


def _usual_drift(project, tmp_path, hook=None, clear=True, **changes):  # noqa: F811
    runner = _runner(project, tmp_path, [dict(type='EcoTTAHook', **(hook or {}))], **changes)
    runner.cfg.adaptation = deepcopy(CALIBRATED)
    if not clear:
        runner.cfg.forgetting_dataloader = None
    runner.call_hook('before_run')
    runner.call_hook('before_test')
    return torch.cat([norm.usual_drift for norm in calibrated_norms(runner.model)])


def test_the_clear_day_is_used_without_anything_else(project, tmp_path):  # noqa: F811
    few = _usual_drift(project, tmp_path / 'a', dict(calibration_frames=1))
    more = _usual_drift(project, tmp_path / 'b', dict(calibration_frames=3))
    assert not torch.equal(few, more)
    assert (more != ESTIMATED_DRIFT).any()


def test_a_folder_goes_before_the_config(project, tmp_path):  # noqa: F811
    folder = tmp_path / 'clear'
    folder.mkdir()
    rng = np.random.default_rng(0)
    for number in range(2):
        picture = rng.integers(0, 255, (64, 96, 3), dtype=np.uint8)
        cv2.imwrite(str(folder / f'{number}.png'), picture)
    of_config = _usual_drift(project, tmp_path / 'a')
    of_folder = _usual_drift(project, tmp_path / 'b', dict(calibrate=str(folder)))
    assert not torch.allclose(of_config, of_folder)


@pytest.mark.parametrize('hook, clear', [(dict(calibration_frames=0), True), ({}, False)])
def test_without_clear_frames_the_estimates_stay(project, tmp_path, hook, clear):  # noqa: F811
    drift = _usual_drift(project, tmp_path, hook, clear)
    assert torch.equal(drift, torch.full_like(drift, ESTIMATED_DRIFT))


def test_without_clear_frames_a_method_of_prototypes_is_refused(project, tmp_path):  # noqa: F811
    runner = _runner(project, tmp_path, [dict(type='EcoTTAHook', calibration_frames=0)])
    optimizer = dict(type='SGD', lr=0.01)
    runner.cfg.adaptation = dict(type='mixture_of_prototypes', optimizer=optimizer)
    runner.call_hook('before_run')
    with pytest.raises(ValueError, match='expected clear frames.*--calibrate DIR'):
        runner.call_hook('before_test')


PLUS = dict(
    type='ecotta_plus',
    meta_networks=dict(num_parts=4, start='identity'),
    frozen_norm=dict(mode='calibrated'),
    shift_gate=dict(half=1.5, exponent=6.0),
    optimizer=dict(type='SGD', lr=0.01),
)


@pytest.fixture
def looks(monkeypatch):
    """How many clear frames each calibration is shown."""
    seen = []
    calibrate = EcoTTAPlus.calibrate

    def spy(method, frames):
        seen.append(len(frames))
        calibrate(method, frames)

    monkeypatch.setattr(EcoTTAPlus, 'calibrate', spy)
    return seen


def _plus(project, tmp_path, hooks, **changes):  # noqa: F811
    runner = _runner(project, tmp_path, hooks, **changes)
    runner.cfg.adaptation = deepcopy(PLUS)
    return runner


def test_adapters_with_a_calibration_need_no_clear_frames(project, tmp_path, looks):  # noqa: F811
    first = _plus(project, tmp_path / 'a', [dict(type='EcoTTAHook', calibration_frames=2)])
    first.call_hook('before_run')
    first.call_hook('before_test')
    measured = {name: t.clone() for name, t in first.model.calibration().items()}
    path = str(tmp_path / 'adapters.pth')
    save_adapters(first.model.encoder, path, measured)
    del looks[:]

    second = _plus(project, tmp_path / 'b', [dict(type='EcoTTAHook', adapters=path)])
    second.cfg.forgetting_dataloader = None
    second.call_hook('before_run')
    second.call_hook('before_test')
    assert looks == []
    found = second.model.calibration()
    assert all(torch.equal(found[name], measured[name]) for name in measured)

    # Older files have none: the clear day is used.
    save_adapters(first.model.encoder, path)
    third = _plus(project, tmp_path / 'c', [dict(type='EcoTTAHook', adapters=path)])
    third.call_hook('before_run')
    third.call_hook('before_test')
    assert looks == [3]


def test_a_folder_goes_before_the_adapters(project, tmp_path, looks):  # noqa: F811
    clear = tmp_path / 'clear'
    clear.mkdir()
    for number in range(2):
        picture = np.random.default_rng(number).integers(0, 255, (64, 96, 3), dtype=np.uint8)
        cv2.imwrite(str(clear / f'{number}.png'), picture)
    first = _plus(project, tmp_path / 'a', [dict(type='EcoTTAHook')])
    first.call_hook('before_run')
    first.call_hook('before_test')
    path = str(tmp_path / 'adapters.pth')
    save_adapters(first.model.encoder, path, first.model.calibration())
    options = dict(adapters=path, calibrate=str(clear))
    second = _plus(project, tmp_path / 'b', [dict(type='EcoTTAHook', **options)])
    second.call_hook('before_run')
    second.call_hook('before_test')
    assert looks == [3, 2]


class _Stops(Hook):
    def after_test_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        if batch_idx == 3:
            raise KeyboardInterrupt


@pytest.mark.slow
def test_a_stream_that_is_gone_on_with_is_not_calibrated_again(project, tmp_path, looks):  # noqa: F811
    hooks = [
        dict(type='EcoTTAHook'),
        dict(type='StreamStateHook', interval=2, max_share=None),
    ]
    stopped = _plus(project, tmp_path, hooks)
    stopped.register_hook(_Stops())
    with pytest.raises(KeyboardInterrupt):
        stopped.test()
    measured = {name: t.clone() for name, t in stopped.model.calibration().items()}
    assert looks == [3]
    hooks[1] = dict(hooks[1], resume=True)
    rest = _plus(project, tmp_path, hooks)
    rest.test()
    assert rest.message_hub.get_info('ecotta_seg/resumed_at') == 2 and looks == [3]
    assert all(torch.equal(t, measured[name]) for name, t in rest.model.calibration().items())
    # Nor is it when the same method is tested once more.
    rest.test()
    assert looks == [3]
