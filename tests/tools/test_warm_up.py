"""tools/warm_up.py: meta networks alone learn, are saved alone, and resume where they stopped."""

import json

import torch
from mmengine.config import Config
from mmengine.registry import DefaultScope
from mmseg.registry import MODELS

from ecotta_seg.adaptation import prepare_meta_networks
from ecotta_seg.meta_networks import load_adapters
from tests.tools.conftest import error_of, run_tool


def _adapters(folder):
    return torch.load(folder / 'adapters.pth')['state_dict']


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


def test_a_method_without_meta_networks_is_refused(project, tmp_path):
    config = tmp_path / 'tent.py'
    config.write_text(
        f"_base_ = ['{project.config}']\n"
        "adaptation = dict(_delete_=True, type='tent', optimizer=dict(type='SGD', lr=1e-4))\n"
    )
    run = run_tool('warm_up', config, project.checkpoint, '--work-dir', tmp_path / 'w')
    assert 'no meta networks to warm up' in error_of(run)
