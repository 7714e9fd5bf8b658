"""Which clear frames EcoTTAHook shows to a method, in a real Runner on the tiny project."""

from copy import deepcopy

import cv2
import numpy as np
import pytest
import torch

from ecotta_seg.adaptation.calibrated_batch_norm import ESTIMATED_DRIFT, calibrated_norms
from tests.hooks.test_core_hooks import _runner
from tests.tools.conftest import project  # noqa: F401  (a fixture)

CALIBRATED = dict(type='batch_norm_statistics', mode='calibrated')


def _usual_drift(project, tmp_path, hook=None, clear=True, **changes):  # noqa: F811
    runner = _runner(project, tmp_path, [dict(type='EcoTTAHook', **(hook or {}))], **changes)
    runner.cfg.adaptation = deepcopy(CALIBRATED)
    if not clear:
        runner.cfg.clear_dataloader = None
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
