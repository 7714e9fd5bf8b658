"""tools/sparsify.py: a checkpoint with zeros that the other tools take."""

import errno
import json
import os
import re

import pytest
import torch

from ecotta_seg.files.compressed_size import compressed_size
from tests.tools.conftest import ROOT, error_of, run_tool

DEMO = ROOT / 'configs/demo.py', ROOT / 'data/checkpoints/demo_source.pth'
QUICK = ('--frames', 2, '--steps', 2, '--generations', 1, '--device', 'cpu')


def _sparsified(out, *options, source=DEMO):
    run = run_tool('sparsify', *source, out, *QUICK, *options)
    assert run.returncode == 0, run.stderr
    return run.stdout, torch.load(out, weights_only=True)


@pytest.mark.slow
def test_the_demo_is_cut_and_adapts(tmp_path):
    out = tmp_path / 'sparse.pth'
    screen, sparse = _sparsified(out, '--sparsity', 0.7)
    dense = torch.load(DEMO[1], weights_only=True)
    facts = sparse['meta']['sparsity']
    assert sparse['state_dict'].keys() == dense['state_dict'].keys()
    zeros = sum(int((sparse['state_dict'][name] == 0).sum()) for name in facts['layers'])
    weights = sum(sparse['state_dict'][name].numel() for name in facts['layers'])
    assert zeros == round(0.7 * weights) and facts['sparsity'] == pytest.approx(zeros / weights)
    assert len(set(facts['layers'].values())) > 1
    for name, share in facts['layers'].items():
        found = float((sparse['state_dict'][name] == 0).double().mean())
        assert found == pytest.approx(share, abs=1e-9)
    assert sparse['meta']['dataset_meta'] == dense['meta']['dataset_meta']
    assert re.search(r'compressed [\d.]+ MB \(the dense checkpoint [\d.]+ MB\)', screen)
    assert compressed_size(out) < 0.6 * compressed_size(DEMO[1])

    run = run_tool(
        'test_tta', DEMO[0], out, '--work-dir', tmp_path / 'run', '--rounds', 1, '--frames', 1,
        '--conditions', 'fog', '--device', 'cpu',
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    assert json.loads((tmp_path / 'run/results.json').read_text())


@pytest.mark.slow
def test_sparsity_zero_changes_no_bit(project, tmp_path):
    source = project.config, project.checkpoint
    _, same = _sparsified(tmp_path / 'same.pth', '--sparsity', 0, source=source)
    dense = torch.load(project.checkpoint, weights_only=True)['state_dict']
    assert list(same['state_dict']) == list(dense)
    for key, value in dense.items():
        assert value.dtype == same['state_dict'][key].dtype
        assert value.numpy().tobytes() == same['state_dict'][key].numpy().tobytes(), key


@pytest.mark.slow
def test_the_pattern_and_pictures_of_a_folder(project, tmp_path):
    pictures = project.data / 'leftImg8bit/train'
    source = project.config, project.checkpoint
    options = ('--pattern', '2:4', '--calibrate', pictures, '--keep')
    screen, sparse = _sparsified(tmp_path / 'sparse.pth', *options, source=source)
    layers = sparse['meta']['sparsity']['layers']
    assert set(layers.values()) == {0.5} and sparse['meta']['sparsity']['pattern'] == '2:4'
    # Nothing is kept but what has no groups of four: the first layer and depthwise convolutions.
    assert 'decode_head.conv_seg.weight' in layers and 'backbone.stem.0.weight' not in layers
    assert 'stay dense' in screen
    for name in layers:
        rows = sparse['state_dict'][name].movedim(1, -1).reshape(-1, 4)
        assert bool(((rows != 0).sum(1) <= 2).all()), name


@pytest.mark.parametrize('options, text', [
    (('out.pth', '--sparsity', 1), 'expected a share from 0 to below 1, such as 0.5 .* got 1'),
    (('out.pth', '--sparsity=-0.1'), 'expected a share from 0 to below 1, .* got -0.1'),
    (('out.pth', '--sparsity', 'nan'), 'expected a share from 0 to below 1, .* got nan'),
    (('out.pth', '--sparsity', 0.5, '--pattern', '2:4'), 'either --sparsity .* got both'),
    (('out.pth',), 'either --sparsity with a number or --pattern 2:4.* got neither'),
    (('.', '--sparsity', 0.5), 'OUT: expected a file, but . is a folder'),
    ((DEMO[1], '--sparsity', 0.5), 'is the dense checkpoint: write to another file'),
    (('out.pth', '--sparsity', 0.5, '--calibrate', 'none'), 'expected a folder with pictures'),
])  # fmt: skip
def test_mistakes_are_reported_before_torch_is_imported(options, text, tmp_path):
    (tmp_path / 'torch').mkdir()
    (tmp_path / 'torch/__init__.py').write_text('raise SystemExit("torch was imported")')
    path = os.pathsep.join([str(tmp_path), str(ROOT)])
    run = run_tool('sparsify', *DEMO, *options, cwd=tmp_path, PYTHONPATH=path)
    assert re.search(text, error_of(run)), run.stderr
    assert not (tmp_path / 'out.pth').exists()


@pytest.mark.slow
def test_a_config_without_clear_frames_is_refused(project, tmp_path):
    options = ('--sparsity', 0.5, '--cfg-options', 'forgetting_dataloader=None')
    out = tmp_path / 'out.pth'
    run = run_tool('sparsify', project.config, project.checkpoint, out, *QUICK, *options)
    assert 'has no clear frames: expected --calibrate DIR' in error_of(run)
    assert not out.exists()


@pytest.mark.slow
def test_a_full_disk_is_one_sentence_and_leaves_nothing(project, tmp_path):
    start = tmp_path / 'sitecustomize.py'
    start.write_text(
        'import os\n'
        'real = os.fsync\n'
        'def full(file):\n'
        f'    raise OSError({errno.ENOSPC}, "No space left on device")\n'
        'os.fsync = full\n'
    )
    out = tmp_path / 'out' / 'sparse.pth'
    path = os.pathsep.join([str(tmp_path), str(ROOT)])
    run = run_tool(
        'sparsify', project.config, project.checkpoint, out, *QUICK, '--sparsity', 0.5,
        PYTHONPATH=path,
    )  # fmt: skip
    assert f'{out}: No space left on device' in error_of(run)
    assert list(out.parent.iterdir()) == []
