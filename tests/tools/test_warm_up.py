"""tools/warm_up.py: meta networks alone learn, are saved alone, and resume where they stopped."""

import json
import os
import signal
import subprocess
import sys

import cv2
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import DefaultScope
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample

from ecotta_seg.meta_networks import load_adapters, prepare_meta_networks
from ecotta_seg.methods import build_method
from tests.tools.conftest import ROOT, error_of, run_tool


def _adapters(folder):
    return torch.load(folder / 'adapters.pth')['state_dict']


@pytest.mark.slow
def test_warm_up_resume_and_use(project, tmp_path):
    whole, stopped = tmp_path / 'whole', tmp_path / 'stopped'
    arguments = ['warm_up', project.config, project.checkpoint, '--work-dir']
    run = run_tool(*arguments, whole)
    assert run.returncode == 0, run.stderr
    # The checkpoint of the training holds no frozen weight.
    checkpoint = torch.load(whole / 'iter_4.pth', weights_only=True)
    assert checkpoint['state_dict']
    assert all('.meta_networks.' in name for name in checkpoint['state_dict'])

    cfg = Config.fromfile(project.config)
    with DefaultScope.overwrite_default_scope('mmseg'):
        model = MODELS.build(cfg.model)
    encoder = prepare_meta_networks(model, dict(cfg.adaptation.meta_networks))
    fresh = {k: v.clone() for k, v in encoder.meta_networks.state_dict().items()}
    load_adapters(encoder, whole / 'adapters.pth')
    trained = encoder.meta_networks.state_dict()
    assert any(not torch.equal(fresh[name], trained[name]) for name in fresh)

    # Stopped after two of four iterations, then gone on with.
    run = run_tool(*arguments, stopped, '--cfg-options', 'train_cfg.max_iters=2')
    assert run.returncode == 0, run.stderr
    (stopped / 'adapters.pth').unlink()
    run = run_tool(*arguments, stopped, '--resume')
    assert run.returncode == 0, run.stderr
    assert checkpoint['meta']['iter'] == 4
    resumed = torch.load(stopped / 'iter_4.pth', weights_only=True)
    assert resumed['meta']['iter'] == 4
    assert _adapters(stopped).keys() == _adapters(whole).keys()

    run = run_tool(
        'test_tta', project.config, project.checkpoint, '--work-dir', tmp_path / 'test',
        '--adapters', whole / 'adapters.pth', '--rounds', 1,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    document = json.loads((tmp_path / 'test' / 'results.json').read_text())
    assert document['clear']['before'] != document['clear']['source']


@pytest.mark.slow
def test_the_adapters_have_a_calibration_on_the_training_set(project, tmp_path):
    arguments = ['warm_up', project.config, project.checkpoint, '--method', 'ecotta_plus']
    options = ('--cfg-options', 'train_cfg.max_iters=2')
    run = run_tool(*arguments, '--work-dir', tmp_path, *options)
    assert run.returncode == 0, run.stderr
    kept = torch.load(tmp_path / 'adapters.pth', weights_only=True)['calibration']

    # The same by hand: the source on all four pictures of the training set, as they are.
    cfg = Config.fromfile(project.config)
    with DefaultScope.overwrite_default_scope('mmseg'):
        model = MODELS.build(cfg.model)
    model.load_state_dict(torch.load(project.checkpoint)['state_dict'])
    options = Config.fromfile(ROOT / 'configs/_base_/adaptation/ecotta_plus.py').adaptation
    method = build_method(options.to_dict(), model).eval()
    frames = []
    for path in sorted((project.data / 'leftImg8bit/train').rglob('*.png')):
        image = torch.from_numpy(cv2.imread(str(path))).permute(2, 0, 1)
        sample = SegDataSample(metainfo=dict(img_shape=image.shape[1:], ori_shape=image.shape[1:]))
        batch = model.data_preprocessor(dict(inputs=[image], data_samples=[sample]), False)
        frames.append((batch['inputs'], [one.metainfo for one in batch['data_samples']]))
    assert len(frames) == 4
    method.calibrate_all(frames)
    assert method.calibration().keys() == kept.keys()
    for name, tensor in method.calibration().items():
        assert torch.allclose(kept[name], tensor, rtol=1e-5), name

    # Pictures of a folder go before the training set.
    folder = project.data / 'leftImg8bit/val'
    other = tmp_path / 'other'
    run = run_tool(
        *arguments, '--work-dir', other, '--calibrate', folder,
        '--cfg-options', 'train_cfg.max_iters=1',
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    others = torch.load(other / 'adapters.pth', weights_only=True)['calibration']
    assert not torch.equal(others['usual_values'], kept['usual_values'])
    run = run_tool(*arguments, '--work-dir', other, '--calibrate', tmp_path / 'none')
    assert '--calibrate: expected a folder with pictures' in error_of(run)


DIES = """
import importlib.util, os, signal, sys
from mmengine.runner import runner
save, count = runner.save_checkpoint, 0

def dying(checkpoint, path, **options):
    global count
    count += 1
    save(checkpoint, path, **options)
    if count == 3:
        content = open(path, 'rb').read()
        open(path, 'wb').write(content[:len(content) // 2])
        os.kill(os.getpid(), signal.SIGKILL)

runner.save_checkpoint = dying
spec = importlib.util.spec_from_file_location('warm_up', sys.argv[1])
tool = importlib.util.module_from_spec(spec)
spec.loader.exec_module(tool)
tool.main(sys.argv[2:])
"""


@pytest.mark.slow
def test_a_kill_while_a_checkpoint_is_written_costs_no_more_than_that_one(project, tmp_path):
    work = tmp_path / 'work'
    arguments = [project.config, project.checkpoint, '--work-dir', work]
    longer = ['--cfg-options', 'train_cfg.max_iters=8', 'default_hooks.checkpoint.interval=2']
    run = subprocess.run(
        [sys.executable, '-c', DIES, ROOT / 'tools/warm_up.py', *map(str, arguments), *longer],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**os.environ, 'OMP_NUM_THREADS': '1', 'PYTHONPATH': str(ROOT)},
        timeout=300,
    )
    assert run.returncode == -signal.SIGKILL, run.stderr
    assert {path.name for path in work.glob('iter_*.pth')} == {'iter_4.pth', 'iter_6.pth'}
    run = run_tool('warm_up', *arguments, '--resume', *longer)
    assert run.returncode == 0, run.stderr
    assert torch.load(work / 'iter_8.pth', weights_only=True)['meta']['iter'] == 8
    assert (work / 'adapters.pth').exists()


def test_a_method_without_meta_networks_is_refused(project, tmp_path):
    config = tmp_path / 'tent.py'
    config.write_text(
        f"_base_ = ['{project.config}']\n"
        "adaptation = dict(_delete_=True, type='tent', optimizer=dict(type='SGD', lr=1e-4))\n"
    )
    run = run_tool('warm_up', config, project.checkpoint, '--work-dir', tmp_path / 'w')
    assert 'no meta networks to warm up' in error_of(run)


@pytest.mark.slow
def test_another_methods_meta_networks_are_warmed_up(project, tmp_path):
    arguments = ['warm_up', project.config, project.checkpoint, '--work-dir', tmp_path, '--method']
    options = ('--cfg-options', 'train_cfg.max_iters=1', 'adaptation.meta_networks.reduction=2')
    run = run_tool(*arguments, 'ladder', *options)
    assert run.returncode == 0, run.stderr
    run = run_tool(
        'test_tta', project.config, project.checkpoint, '--work-dir', tmp_path / 'test', '--rounds',
        1, '--method', 'ladder', '--adapters', tmp_path / 'adapters.pth',
        '--cfg-options', 'adaptation.meta_networks.reduction=2',
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    assert 'tent has no meta networks to warm up' in error_of(run_tool(*arguments, 'tent'))
    assert 'expected one of' in error_of(run_tool(*arguments, 'tant'))


@pytest.mark.slow
def test_the_experts_of_becotta_are_warmed_up_in_made_weather(project, tmp_path):
    arguments = [project.config, project.checkpoint, '--method', 'becotta', '--work-dir']
    run = run_tool('warm_up', *arguments, tmp_path)
    assert run.returncode == 0, run.stderr
    kept = torch.load(tmp_path / 'adapters.pth', weights_only=True)['state_dict']
    # Four batches of two frames, each in the weather of one of five domains.
    assert kept['0.classifier.counts'].sum() == 8 and len(kept['0.classifier.counts']) == 5
    assert all(kept[f'{part}.up'].any() for part in range(4))
    run = run_tool(
        'test_tta', *arguments, tmp_path / 'test', '--rounds', 1,
        '--adapters', tmp_path / 'adapters.pth',
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
