"""Adapters and saved states to a file, by the tool; and all that a user may get wrong."""

import shutil

import numpy as np
import pytest
import torch

from ecotta_seg.apis import init_adaptive_segmentor
from ecotta_seg.cli.command_line import run_tool as run_here
from ecotta_seg.cli.console import load_tool
from ecotta_seg.deploy import OnnxSession
from ecotta_seg.deploy.agreement import predicted
from ecotta_seg.resume.state_file import read_state
from ecotta_seg.startup import first_look
from tests.tools.conftest import ROOT, run_tool

pytest.importorskip('onnx', reason='ONNX has no build for this Python')
pytest.importorskip('onnxruntime', reason='onnxruntime has no build for this Python')

DATA = 'test_dataloader.dataset.dataset.data_root'


@pytest.fixture(scope='module')
def run(project, tmp_path_factory):
    """The work dir of a run that saved its state after two frames."""
    folder = tmp_path_factory.mktemp('run')
    found = run_tool(
        'test_tta', project.config, project.checkpoint, '--work-dir', folder, '--rounds', 1,
        '--conditions', 'fog', '--frames', 2,
        '--cfg-options', 'custom_hooks.4.interval=2', 'forgetting_dataloader=None',
        'custom_hooks.4.max_share=1.0',
    )  # fmt: skip
    assert found.returncode == 0, found.stderr
    return folder


def _export(capsys, *arguments):
    """Exit code, and what was said."""
    code = run_here(load_tool(ROOT / 'tools' / 'export.py').main, [str(a) for a in arguments])
    said = capsys.readouterr()
    lines = [line for line in said.err.splitlines() if line.startswith('error: ')]
    return code, said.out if code == 0 else ' '.join(lines)


def _learned(run):
    """The meta networks in the newest state of a run, by name."""
    newest = max((run / 'state').glob('stream_state_rank0_*.pth'))
    tensors = read_state(newest)['method']['tensors']
    prefix = 'parameter.backbone.meta_networks.'
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}


@pytest.mark.slow
def test_what_a_run_has_learned(project, run, tmp_path, capsys):
    """The saved state as it is and as a file of adapters give the same network."""
    common = (project.config, project.checkpoint, '--frames', 3)
    path = tmp_path / 'state.onnx'
    code, said = _export(capsys, *common, '--state', run, '--out', path)
    assert code == 0, said
    assert 'the state was saved at frame 2 of its stream' in said and '3 frames of 3 sizes' in said
    assert "of the config's test" in said and f'{path}: ' in said
    learned = _learned(run)
    assert any(bool(tensor.any()) for name, tensor in learned.items() if name.endswith('gain'))
    segmentor = init_adaptive_segmentor(project.config, project.checkpoint)
    segmentor.method.encoder.meta_networks.load_state_dict(learned, strict=False)
    segmentor.save_adapters(tmp_path / 'adapters.pth')
    code, said = _export(
        capsys, *common, '--adapters', tmp_path / 'adapters.pth', '--work-dir', tmp_path / 'work'
    )
    assert code == 0, said
    frame = np.full((1, 3, 48, 96), 90, np.float32)
    frame[..., 40:] = 160
    both = [
        OnnxSession(file).run(frame)['logits']
        for file in (path, tmp_path / 'work' / 'network.onnx')
    ]
    assert np.array_equal(*both)
    method = init_adaptive_segmentor(
        project.config, project.checkpoint, adapters=tmp_path / 'adapters.pth'
    ).method
    expected = predicted(method, torch.from_numpy(frame[0]).byte())
    assert np.abs(both[0] - expected.numpy()).max() < 1e-4
    source = predicted(segmentor_of_source(project), torch.from_numpy(frame[0]).byte())
    assert (expected - source).abs().max() > 1e-3


def segmentor_of_source(project):
    return init_adaptive_segmentor(
        project.config, project.checkpoint, method=dict(type='source')
    ).method


def test_pictures_of_a_folder(project, tmp_path, capsys):
    pictures = project.data / 'leftImg8bit' / 'test' / 'scenetown'
    code, said = _export(
        capsys, project.config, project.checkpoint, '--method', 'source', '--check', pictures,
        '--frames', 2, '--half', '--fixed-size', '--features', '--out', tmp_path / 'n.onnx',
    )  # fmt: skip
    assert code == 0 and f'of {pictures}, 2 frames of 1 sizes' in said, said
    assert OnnxSession(tmp_path / 'n.onnx').description['precision'] == 'float16'


def test_made_scenes_without_data(project, tmp_path, capsys):
    config = tmp_path / 'source.py'
    config.write_text(
        f"_base_ = ['{project.config}']\nadaptation = dict(_delete_=True, type='source')\n"
        'estimate = True\n'
    )
    code, said = _export(
        capsys, config, project.checkpoint, '--frames', 1, '--out', tmp_path / 'n.onnx',
        '--cfg-options', f'{DATA}={tmp_path}/none',
    )  # fmt: skip
    assert code == 0 and 'made scenes, because the data of the test is missing' in said
    assert 'note: estimate of the method is not part of a network' in said


def _mistakes(project, run):
    damaged = project.folder / 'damaged'
    shutil.copytree(run / 'state', damaged, dirs_exist_ok=True)
    for path in damaged.glob('*.pth'):
        path.write_bytes(path.read_bytes()[:1000])
    other = project.folder / 'other.pth'
    checkpoint = torch.load(project.checkpoint, weights_only=True)
    weights = checkpoint['state_dict']
    torch.save({'state_dict': {k: v + 1 for k, v in weights.items()}}, other)
    empty = project.folder / 'empty'
    empty.mkdir(exist_ok=True)
    own = (project.config, project.checkpoint)
    adapters = ROOT / 'data/checkpoints/demo_adapters.pth'
    return [
        ((*own, '--state', empty), 'has no saved state'),
        ((*own, '--state', empty / 'none'), 'no saved state is complete'),
        ((*own, '--state', damaged), 'no saved state is complete: '),
        ((project.config, other, '--state', run), 'belongs to a run with another source model'),
        ((*own, '--adapters', adapters), 'do not fit this model'),
        ((*own, '--adapters', project.checkpoint), 'is not an adapters file'),
        ((*own, '--check', empty), 'holds no images'),
        ((*own, '--out', empty), '--out: expected a file, but'),
        ((*own, '--method', 'tent', '--strength', 0.5), 'leave out --strength'),
        ((*own, '--strength', 2), 'expected a strength from 0 to 1, got 2.0'),
        ((*own, '--tolerance', 0), 'differs from the network in torch, so nothing is written'),
    ]


@pytest.mark.slow
def test_a_mistake_is_one_sentence_and_nothing_is_written(project, run, tmp_path, capsys):
    for arguments, text in _mistakes(project, run):
        if '--out' not in arguments:
            arguments = (*arguments, '--out', tmp_path / 'n.onnx')
        code, said = _export(capsys, *arguments, '--frames', 1, '--fixed-size')
        assert code == 2 and text in said, (arguments, said)
        assert not list(tmp_path.iterdir()), arguments


def test_a_missing_library_is_named(project, tmp_path, monkeypatch, capsys):
    find = first_look.importlib.util.find_spec
    monkeypatch.setattr(
        first_look.importlib.util, 'find_spec', lambda name: None if name == 'onnx' else find(name)
    )
    code, said = _export(capsys, project.config, project.checkpoint)
    assert code == 2
    assert "--format onnx needs onnx, which is not installed: pip install 'ecotta-seg[expo" in said
