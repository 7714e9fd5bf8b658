"""Mistakes in a command line are told before torch is imported."""

import subprocess
import sys

import pytest

from ecotta_seg.startup import first_look
from tests.tools.conftest import ROOT, _environment

CONFIG, CHECKPOINT = ROOT / 'configs' / 'demo.py', ROOT / 'data/checkpoints/demo_source.pth'
DATA = 'test_dataloader.dataset.dataset.data_root'
TEST = ('test_tta', CONFIG, CHECKPOINT)
BENCHMARK = ('benchmark_methods', '--model', 'a')
EMPTY = ('--cfg-options', 'train_dataloader.dataset.data_prefix.img_path=leftImg8bit/test')
FAST = ('benchmark_memory', CONFIG, '--size', 32, 32)
RERUN = 'choose another --rerun'
try:
    first_look.check_recording('run.rrd')
except ValueError as old_or_missing:
    RERUN = str(old_or_missing)


@pytest.mark.parametrize(('command', 'text'), [
    (('test_tta', CONFIG, 'missing.pth'), 'expected a checkpoint file, but missing.pth does not'),
    (('test_tta', CONFIG, '.'), 'expected a checkpoint file, but . is a folder'),
    (('test_tta', 'missing.py', CHECKPOINT), 'expected a config file, but missing.py does not'),
    ((*TEST, '--frames', '0'), 'expected a whole number from 1'),
    ((*TEST, '--adapters', 'a.pth'), 'expected an adapters file, but a.pth does not exist'),
    ((*TEST, '--calibrate', 'clear'), '--calibrate: expected a folder with pictures, got clear'),
    ((*TEST, '--method', 'ecota'), '--method ecota: expected one of'),
    ((*TEST, '--method', 'tent', '--adapters', CHECKPOINT), 'goes with a method that has meta'),
    ((*TEST, '--cfg-options', 'adaptatoin.x=1'), "the config has no 'adaptatoin'"),
    ((*TEST, '--cfg-options', 'adaptation.nix=1'), "'ecotta_plus' has no option 'nix'"),
    ((*TEST, '--method', 'tent', '--seed', '3', '--cfg-options', 'adaptation.views=2',
      'adaptation.nix=1'), "'tent' has no option 'nix'"),
    (('export', CONFIG, CHECKPOINT, '--cfg-options', 'adaptation.nix=1'), "no option 'nix'"),
    ((*TEST, '--cfg-options', f'{DATA}=none'), 'folder of the data set does not exist: none (of '),
    ((*TEST, '--work-dir', CHECKPOINT), 'cannot be written to'),
    ((*TEST, '--out', CHECKPOINT), 'choose another --out'),
    ((*TEST, '--rerun', 'run.mp4'), '--rerun: expected a file that ends with .rrd, got run.mp4'),
    ((*TEST, '--rerun', f'{CHECKPOINT}/run.rrd'), RERUN),
    ((*TEST, '--out-format', 'colours'), 'need --out DIR'),
    (('warm_up', CONFIG, 'missing.pth'), 'expected a checkpoint file, but missing.pth does not'),
    (('warm_up', CONFIG, CHECKPOINT, '--method', 'tent'), 'has no meta networks to warm up'),
    (('adapt_video', 'none', 'out'), 'expected a video file or a folder of images: none does not'),
    (('adapt_video', '.', 'out', '--config', CONFIG), 'expected --config and --checkpoint'),
    (('adapt_video', '0', 'out', '--size', 'half'), "--size: expected 'frame', 'config' or h"),
    (('ros2_bag', 'none', 'out'), 'expected a bag, but none does not exist'),
    (('ros2_bag', '.', 'out'), 'it has no metadata.yaml'),
    (('ros2_bag', 'none', '.'), '. exists: a bag is not written over'),
    (('ros2_node', '--topic', '/c', '--load-state', 's.pth'), '--save-state wrote, but s.pth does'),
    (('benchmark_methods', '--model', 'r', CONFIG, 'm.pth', '--methods', 'tent'), 'm.pth does not'),
    (('publish_checkpoint', 'm.pth', 'out.pth'), 'expected a checkpoint file, but m.pth does not'),
    (('export', CONFIG, 'missing.pth'), 'expected a checkpoint file, but missing.pth does not'),
    (('export', CONFIG, CHECKPOINT, '--check', 'none'), '--check: expected a video or a folder'),
    (('make_submission', 'out.zip', '--server', 'acdc'), 'expected the folder with the masks'),
    # In the folder of the command are `file`, `empty/` and `frames/`.
    (('adapt_video', 'empty', 'out'), 'empty holds no images'),
    (('adapt_video', 'frames', 'file'), 'expected a folder or a video ending in'),
    (('adapt_video', 'frames', 'file/out.mp4'), 'file cannot be written to'),
    (('adapt_video', 'frames', 'out', '--masks', 'file'), 'choose another --masks'),
    (('adapt_video', 'frames', 'out', '--method', 'nix'), '--method nix: expected one of'),
    ((*FAST, '--json', 'file/m.json'), 'choose another --json'),
    ((*FAST, '--budgets', '1y'), 'expected a memory budget such as'),
    ((*BENCHMARK, 'none.py', CHECKPOINT, '--methods', 'tent'), 'but none.py does not exist'),
    ((*BENCHMARK, 'ecotta_seg::dem.py', CHECKPOINT, '--methods', 'tent'), 'a config of ecotta_seg'),
    ((*BENCHMARK, CONFIG, CHECKPOINT, '--methods', 'nix:lr=1'), 'nix: expected one of'),
    ((*BENCHMARK, CONFIG, CHECKPOINT, '--methods', 'tent', '--work-dir', 'file'), 'another --work'),
    (('choose', CONFIG, CHECKPOINT, '--methods', 'nix'), '--method nix: expected one of'),
    (('choose', CONFIG, CHECKPOINT, '--conditions', 'hail'), 'hail: expected some of fog, night'),
    (('compare', 'empty', 'none'), 'empty/results.json does not exist'),
    (('compare', 'empty', 'empty'), 'expected at least two work dirs, each once'),
    (('export', CONFIG, CHECKPOINT, '--out', 'file/a.onnx'), 'choose another --out'),
    (('make_adverse', 'none', 'out'), 'none/leftImg8bit/val does not exist'),
    (('make_adverse', 'none', 'out', '--conditions', 'hail'), 'hail: expected some of fog, night'),
    (('make_driving_scenes', 'out'), 'nothing to write'),
    (('make_driving_scenes', 'file', '--test', '1'), 'file cannot be written to'),
    (('make_submission', 'empty', 'out.zip', '--server', 'acdc'), 'empty holds no masks.json'),
    (('publish_checkpoint', CHECKPOINT, 'file/out.pth'), 'file cannot be written to'),
    (('report', 'none'), 'the work dir none does not exist'),
    (('report', 'empty'), 'empty/results.json does not exist'),
    ((*TEST, '--conditions', 'hail'), '--conditions hail: expected some of fog, night'),
    ((*TEST, '--split', 'val'), '--split val: the config names the folders'),
    ((*TEST, '--memory-budget', '1y'), "expected a memory budget such as '600MB'"),
    ((*TEST, '--compute-budget', '1y'), "expected a compute budget such as '1.5x'"),
    (('adapt_video', 'frames', 'out', '--compute-budget', '0x'), 'expected a compute budget'),
    (('train', CONFIG), 'leftImg8bit/train does not exist ('),
    (('train', CONFIG, *EMPTY, '--work-dir', 'file'), 'choose another --work-dir'),
])  # fmt: skip
def test_a_mistake_needs_no_torch(command, text, tmp_path):
    (tmp_path / 'file').touch()
    (tmp_path / 'empty').mkdir()
    (tmp_path / 'frames').mkdir()
    (tmp_path / 'frames' / 'a.png').touch()
    tool, *arguments = map(str, command)
    path = ROOT / 'tools' / f'{tool}.py'
    run = subprocess.run(
        [sys.executable, '-X', 'importtime', str(path), *arguments],
        capture_output=True, text=True, cwd=tmp_path,
        env=_environment(SCENES_ROOT=str(ROOT / 'data' / 'driving_scenes')),
    )  # fmt: skip
    assert run.returncode == 2, run.stderr[-2000:]
    said = [line for line in run.stderr.splitlines() if not line.startswith('import time:')]
    assert text in ' '.join(said), said
    imported = {line.rpartition('|')[2].strip() for line in run.stderr.splitlines()}
    assert 'ecotta_seg.cli.loading' in imported
    assert 'torch' not in imported
    assert (tmp_path / 'file').read_bytes() == b''


def _fake_torch(monkeypatch, folder, version):
    (folder / 'version.py').write_text(version)
    spec = type('Spec', (), {'submodule_search_locations': [str(folder)]})
    monkeypatch.setattr(first_look.importlib.util, 'find_spec', lambda name: spec)


def test_the_device_is_looked_up_in_torchs_version_file(monkeypatch, tmp_path):
    loaded = []
    monkeypatch.setattr(first_look.ctypes, 'CDLL', loaded.append)
    for text in ('cuda: Optional[str] = None\nhip: Optional[str] = None\n', 'cuda = None\n'):
        _fake_torch(monkeypatch, tmp_path, text)
        for name in ('cuda', 'cuda:1'):
            with pytest.raises(ValueError, match=f'--device {name}: .* without CUDA'):
                first_look.check_device(name)
        first_look.check_device('cpu')
        first_look.check_device(None)
    assert not loaded
    for text in ("cuda: Optional[str] = '12.6'\n", "cuda = '12.1'\n"):
        _fake_torch(monkeypatch, tmp_path, text)
        first_look.check_device('cuda')
    assert loaded == ['libcuda.so.1'] * 2 * (sys.platform == 'linux')
    _fake_torch(monkeypatch, tmp_path, "cuda: Optional[str] = None\nhip: Optional[str] = '6.2'\n")
    first_look.check_device('cuda')
    assert len(loaded) == 2 * (sys.platform == 'linux')


@pytest.mark.skipif(sys.platform != 'linux', reason='the name of the driver is that of Linux')
def test_a_missing_driver_is_told(monkeypatch, tmp_path):
    def no_library(name):
        raise OSError(name)

    _fake_torch(monkeypatch, tmp_path, "cuda = '12.1'\n")
    monkeypatch.setattr(first_look.ctypes, 'CDLL', no_library)
    with pytest.raises(ValueError, match='--device cuda: this machine has no driver for CUDA'):
        first_look.check_device('cuda')


def test_files_and_folders(tmp_path):
    (tmp_path / 'empty.pth').touch()
    with pytest.raises(ValueError, match='damaged or not a checkpoint file .it is empty'):
        first_look.check_checkpoint(tmp_path / 'empty.pth')


def test_an_extra_that_is_missing_or_too_old_is_named(monkeypatch):
    with pytest.raises(ValueError, match=r"needs no-such, .* pip install 'ecotta-seg\[none\]'"):
        first_look.check_extra('none', 'no-such', '--none')
    monkeypatch.setattr(first_look.importlib.metadata, 'version', lambda name: '0.23.1')
    with pytest.raises(ValueError, match='needs pytest >= 0.24, but 0.23.1 is installed'):
        first_look.check_extra('pytest', 'pytest', '--rerun', (0, 24))
    first_look.check_extra('pytest', 'pytest', '--rerun', (0, 23, 1))
    monkeypatch.setattr(first_look.importlib.util, 'find_spec', lambda name: None)
    with pytest.raises(ValueError, match='--rerun needs rerun-sdk, which is not installed'):
        first_look.check_recording('run.rrd')
