import importlib.util
import os
from pathlib import Path

import cv2
import numpy as np
import pytest

from ecotta_seg.apis.frame_files import FrameSource, PictureSink
from ecotta_seg.command_line import run_tool

ROOT = Path(__file__).resolve().parents[2]


def load(path):
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


harness = load(ROOT / 'tests' / 'kill_and_resume.py')
tool = load(ROOT / 'tools' / 'adapt_video.py')


@pytest.fixture
def place(tmp_path):
    """A folder of four frames, a config, and a checkpoint of its model."""
    import torch
    from mmengine.config import Config
    from mmengine.registry import DefaultScope
    from mmseg.registry import MODELS

    harness.write_data(tmp_path / 'data', frames=4)
    config = harness.write_config(tmp_path / 'ecotta.py', 'ecotta', tmp_path / 'data')
    torch.manual_seed(0)
    with DefaultScope.overwrite_default_scope('mmseg'):
        model = MODELS.build(Config.fromfile(str(config)).model)
    torch.save({'state_dict': model.state_dict()}, tmp_path / 'source.pth')
    return tmp_path / 'data/leftImg8bit/val/city', config, tmp_path / 'source.pth'


def run(place, out, *more):
    frames, config, checkpoint = place
    options = ['--config', str(config), '--checkpoint', str(checkpoint), '--width', '96']
    return run_tool(tool.main, [str(frames), str(out), *options, *more])


def test_a_folder_to_pictures_to_a_video_and_back(place, tmp_path, capsys):
    adapters = tmp_path / 'adapters.pth'
    assert run(place, tmp_path / 'out', '--save-adapters', str(adapters)) == 0
    text = capsys.readouterr().out
    assert '4 frames, 4 updates' in text and 'frames/s' in text
    pictures = sorted((tmp_path / 'out').iterdir())
    assert [p.stem for p in pictures] == sorted(p.stem for p in place[0].iterdir())
    assert cv2.imread(str(pictures[0])).shape[1] >= 3 * 96
    assert adapters.exists()
    assert run(place, tmp_path / 'out.avi', '--adapters', str(adapters), '--max-frames', '3') == 0
    video = FrameSource(tmp_path / 'out.avi')
    assert len(list(video)) == 3
    frames, config, checkpoint = place
    again = (tmp_path / 'out.avi', config, checkpoint)
    assert run(again, tmp_path / 'again', '--adapt-every', '2') == 0
    assert '3 frames, 2 updates' in capsys.readouterr().out


def test_a_bad_image_is_told_and_the_rest_goes_on(place, tmp_path, capsys):
    sorted(place[0].iterdir())[1].write_bytes(b'no image')
    assert run(place, tmp_path / 'out') == 0
    text = capsys.readouterr().out
    assert '3 frames' in text and '1 images could not be decoded: city_0001' in text


@pytest.mark.parametrize('case', ['missing', 'empty folder', 'no video', 'suffix', 'all bad'])
def test_mistakes_are_one_sentence(place, tmp_path, capsys, case):
    frames, config, checkpoint = place
    out = tmp_path / 'out'
    if case == 'missing':
        frames = tmp_path / 'nowhere'
    elif case == 'empty folder':
        frames = tmp_path / 'empty'
        frames.mkdir()
    elif case == 'no video':
        frames = tmp_path / 'video.mp4'
        frames.write_bytes(os.urandom(2000))
    elif case == 'suffix':
        out = tmp_path / 'out.txt'
    else:
        for path in frames.iterdir():
            path.write_bytes(b'')
    assert run((frames, config, checkpoint), out) == 2
    error = capsys.readouterr().err
    (line,) = [line for line in error.splitlines() if line.startswith('error: ')]
    assert 'Traceback' not in error
    assert str(out if case == 'suffix' else frames) in line


def test_a_video_that_dies_leaves_no_half(tmp_path):
    with pytest.raises(RuntimeError):
        with PictureSink(tmp_path / 'out.avi') as sink:
            sink.write('a', np.zeros((32, 32, 3), np.uint8))
            raise RuntimeError('on purpose')
    assert list(tmp_path.iterdir()) == []
