import importlib.util
import os
import re
import resource
import signal
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from ecotta_seg.apis.frame_files import FrameSource, PictureSink
from ecotta_seg.cli.command_line import run_tool

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


def test_without_a_config_the_model_and_its_classes_are_named(place, tmp_path, capsys):
    frames, config, checkpoint = place
    arguments = [str(frames), str(tmp_path / 'out'), '--width', '96', '--max-frames', '1']
    assert run_tool(tool.main, arguments) == 0
    note = capsys.readouterr().err
    assert 'segformer_b0_camvid.pth' in note and 'a checkpoint of Cityscapes does better' in note
    assert len(list((tmp_path / 'out').iterdir())) == 1
    # Training lowers the bias of a class without a label below that of each other class.
    state = torch.load(tool.CHECKPOINT, weights_only=True)
    bias = state['state_dict']['decode_head.conv_seg.bias'].float()
    classes = state['meta']['dataset_meta']['classes']
    named = re.search('which knows (.*), and no other class', note).group(1).split(', ')
    low = [bias[i].item() for i, name in enumerate(classes) if name not in named]
    high = [bias[i].item() for i, name in enumerate(classes) if name in named]
    assert len(high) == len(named) == 11 and max(low) < min(high)
    for own in (['--config', str(config)], ['--checkpoint', str(checkpoint)]):
        assert run_tool(tool.main, [*arguments, *own]) == 2
        assert 'expected --config and --checkpoint together' in capsys.readouterr().err


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


def test_the_input_is_not_written_over(place, tmp_path, capsys):
    frames, config, checkpoint = place
    before = {path: path.read_bytes() for path in frames.iterdir()}
    assert run(place, frames) == 2
    assert run(place, tmp_path / 'x' / '..' / 'data/leftImg8bit/val/city') == 2
    assert {path: path.read_bytes() for path in frames.iterdir()} == before
    assert run(place, tmp_path / 'out.avi', '--max-frames', '2') == 0
    video = (tmp_path / 'out.avi').read_bytes()
    assert run((tmp_path / 'out.avi', config, checkpoint), tmp_path / 'out.avi') == 2
    assert (tmp_path / 'out.avi').read_bytes() == video
    assert capsys.readouterr().err.count('it would be overwritten') == 3


def test_odd_entries_of_a_folder_do_not_stop_it(place, tmp_path, capsys):
    frames = place[0]
    (frames / 'folder.png').mkdir()
    (frames / 'dangling.png').symlink_to(tmp_path / 'nowhere')
    (frames / 'notes.txt').write_text('no image')
    first = sorted(frames.glob('city*.png'))[0]
    os.rename(os.fsencode(first), os.fsencode(frames) + b'/i_\xff\x1b[31m.png')
    second = sorted(frames.glob('city*.png'))[0]
    cv2.imwrite(str(second.with_suffix('.jpg')), 255 - cv2.imread(str(second)))
    cut = sorted(frames.glob('city*.png'))[-1]
    cut.write_bytes(cut.read_bytes()[:-200])
    assert run(place, tmp_path / 'out') == 0
    text = capsys.readouterr().out
    assert '4 frames, 4 updates' in text and '\x1b[31m' not in text
    assert '2 images could not be decoded' in text
    assert len(list((tmp_path / 'out').iterdir())) == 4


def test_a_full_disk_leaves_the_earlier_video(place, tmp_path, capsys):
    out = tmp_path / 'out.avi'
    assert run(place, out, '--max-frames', '1') == 0
    earlier = out.read_bytes()
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (len(earlier) + 2000, before[1]))
        assert run(place, out) == 2
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    assert 'is the disk full?' in capsys.readouterr().err
    assert out.read_bytes() == earlier
    assert not [path for path in tmp_path.iterdir() if path.name.startswith('.out')]


def test_a_signal_saves_what_was_learned(place, tmp_path):
    adapters, out = tmp_path / 'adapters.pth', tmp_path / 'out.avi'
    write = PictureSink.write

    def stop(self, name, picture):
        write(self, name, picture)
        os.kill(os.getpid(), signal.SIGTERM)

    handler = signal.getsignal(signal.SIGTERM)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(PictureSink, 'write', stop)
        with pytest.raises(SystemExit) as raised:
            run(place, out, '--save-adapters', str(adapters))
    assert raised.value.code == 128 + signal.SIGTERM
    assert signal.getsignal(signal.SIGTERM) == handler
    assert adapters.exists() and not out.exists()
    assert not [path for path in tmp_path.iterdir() if path.name.startswith('.out')]


def test_adapters_of_a_method_without_are_refused_before_any_frame(place, tmp_path, capsys):
    frames, _, checkpoint = place
    config = harness.write_config(tmp_path / 'tent.py', 'tent', tmp_path / 'data')
    adapters = ('--save-adapters', str(tmp_path / 'adapters.pth'))
    assert run((frames, config, checkpoint), tmp_path / 'out', *adapters) == 2
    assert 'adapts no meta networks' in capsys.readouterr().err
    assert not (tmp_path / 'out').exists()


def test_a_model_of_other_classes_is_drawn(place, tmp_path):

    frames, config, checkpoint = place
    with open(config, 'a') as file:
        file.write("model['decode_head'].update(num_classes=3)\n")
    state = torch.load(checkpoint, weights_only=True)['state_dict']
    for name in ('decode_head.conv_seg.weight', 'decode_head.conv_seg.bias'):
        state[name] = state[name][:3]
    meta = {'dataset_meta': dict(classes=['a', 'b', 'c'], palette=[[255, 0, 0]] * 3)}
    torch.save({'state_dict': state, 'meta': meta}, checkpoint)
    assert run(place, tmp_path / 'out', '--max-frames', '1') == 0
    (picture,) = (tmp_path / 'out').iterdir()
    red = (cv2.imread(str(picture))[..., ::-1] == (255, 0, 0)).all(-1)
    assert red.mean() > 0.2


def test_a_video_that_dies_leaves_no_half(tmp_path):
    with pytest.raises(RuntimeError):
        with PictureSink(tmp_path / 'out.avi') as sink:
            sink.write('a', np.zeros((32, 32, 3), np.uint8))
            raise RuntimeError('on purpose')
    assert list(tmp_path.iterdir()) == []
