"""Cameras, methods, masks and overlays of tools/adapt_video.py."""

import os
import signal

import cv2
import numpy as np
import pytest

from ecotta_seg.apis import live_source
from ecotta_seg.apis.frame_files import FrameSource, PictureSink
from ecotta_seg.cli.command_line import run_tool
from ecotta_seg.cli.console import load_tool
from tests.apis.small_segmentor import built, checkpoint_of, frames, write_config
from tests.tools.conftest import ROOT

tool = load_tool(ROOT / 'tools' / 'adapt_video.py')


@pytest.fixture
def place(tmp_path):
    """A folder of three frames, a config, and a checkpoint of its model."""
    (tmp_path / 'in').mkdir()
    for number, frame in enumerate(frames(3)):
        cv2.imwrite(str(tmp_path / f'in/{number}.png'), frame)
    config = write_config(tmp_path, 'ecotta')
    return tmp_path / 'in', config, checkpoint_of(config)


def run(place, out, *more, source=None):
    folder, config, checkpoint = place
    options = ['--config', config, '--checkpoint', checkpoint, '--width', 96, *more]
    return run_tool(tool.main, [str(a) for a in (source or folder, out, *options)])


def refused(capsys):
    error = capsys.readouterr().err
    assert 'Traceback' not in error
    (line,) = [line for line in error.splitlines() if line.startswith('error: ')]
    return line


def test_masks_are_those_of_the_segmentor(place, tmp_path, capsys):
    assert run(place, tmp_path / 'out', '--masks', tmp_path / 'masks') == 0
    segmentor = built(place[1])
    colours = np.array(segmentor.meta.palette, np.uint8)
    expected = [segmentor.step(frame).pred_sem_seg.data[0].numpy() for frame in frames(3)]
    for number, mask in enumerate(expected):
        found = cv2.imread(str(tmp_path / f'masks/{number}.png'), cv2.IMREAD_UNCHANGED)
        assert found.dtype == np.uint8 and np.array_equal(found, mask)
    options = ('--masks', tmp_path / 'colours', '--mask-format', 'colours')
    assert run(place, tmp_path / 'out', *options) == 0
    found = cv2.imread(str(tmp_path / 'colours/2.png'))[..., ::-1]
    assert np.array_equal(found, colours[expected[2]])
    for folder in (place[0], tmp_path / 'out'):
        assert run(place, tmp_path / 'out', '--masks', folder) == 2
        assert 'choose another' in refused(capsys)
    assert run(place, tmp_path / 'out', '--mask-format', 'colours') == 2
    assert '--mask-format needs --masks DIR' in refused(capsys)


@pytest.mark.parametrize('overlay', [False, True])
def test_pictures_have_one_size_and_one_legend(place, tmp_path, overlay):
    for number, frame in enumerate(frames(3)):
        # A frame that the model sees one class in has a short legend of its own.
        frame = frame if number else np.full_like(frame, 128)
        cv2.imwrite(str(place[0] / f'{number}.png'), frame)
    assert run(place, tmp_path / 'out', *['--overlay'] * overlay) == 0
    pictures = [cv2.imread(str(tmp_path / f'out/{number}.png')) for number in range(3)]
    assert len({picture.shape for picture in pictures}) == 1
    width = 96 + 24 if overlay else 3 * 96 + 48
    assert pictures[0].shape[1] == width
    # The rows of the legend, below the pictures.
    below = [picture[34 + 28 + 64 + 12 :] for picture in pictures]
    assert len(below[0]) > 26 and all(np.array_equal(below[0], other) for other in below)


def test_another_method_and_the_frames_own_size(place, tmp_path, capsys):
    assert run(place, tmp_path / 'out', '--method', 'source', '--size', 'frame') == 0
    assert '3 frames, 0 updates' in capsys.readouterr().out
    assert run(place, tmp_path / 'out', '--method', 'tent', '--save-adapters', 'x.pth') == 2
    assert 'tent adapts no meta networks' in refused(capsys)
    assert run(place, tmp_path / 'out', '--method', 'tint') == 2
    assert '--method tint: expected one of' in refused(capsys)
    for size in ('32', '0,5', '32,', 'half', '3.0,4'):
        assert run(place, tmp_path / 'out', '--size', size) == 2
        assert "--size: expected 'frame', 'config' or height,width" in refused(capsys)
    assert run(place, tmp_path / 'small', '--size', '32,48', '--masks', tmp_path / 'masks') == 0
    assert cv2.imread(str(tmp_path / 'masks/0.png')).shape[:2] == (64, 96)


def test_a_stream_in_two_parts_by_a_state(place, tmp_path):
    masks = {name: tmp_path / name for name in ('whole', 'parts')}
    assert run(place, tmp_path / 'out', '--masks', masks['whole']) == 0
    state = tmp_path / 'state.pth'
    options = ('--masks', masks['parts'], '--max-frames', 2, '--save-state', state)
    assert run(place, tmp_path / 'out', *options) == 0
    for number in (0, 1):
        (place[0] / f'{number}.png').unlink()
    assert run(place, tmp_path / 'out', '--masks', masks['parts'], '--load-state', state) == 0
    for number in range(3):
        first, second = ((masks[name] / f'{number}.png').read_bytes() for name in masks)
        assert first == second
    assert run(place, tmp_path / 'out', '--load-state', tmp_path / 'none.pth') == 2


class Camera:
    """Shows the frames again and again."""

    def __init__(self):
        self.frames, self.number = list(frames(5)), 0

    def isOpened(self):
        return True

    def get(self, key):
        return 0.0

    def read(self):
        self.number += 1
        return True, self.frames[self.number % 5].copy()

    def release(self):
        pass


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM])
def test_a_camera_runs_until_a_signal_and_its_video_is_whole(
    place, tmp_path, monkeypatch, capsys, number
):
    monkeypatch.setattr(live_source, '_opened', lambda address: Camera())
    write, written, handler = PictureSink.write, [], signal.getsignal(number)

    def stop(self, name, picture):
        write(self, name, picture)
        written.append(name)
        if len(written) == 3:
            os.kill(os.getpid(), number)

    monkeypatch.setattr(PictureSink, 'write', stop)
    state = tmp_path / 'state.pth'
    options = ('--overlay', '--save-state', state)
    assert run(place, tmp_path / 'out.avi', *options, source='0') == 0
    assert signal.getsignal(number) == handler and state.exists()
    assert len(list(FrameSource(tmp_path / 'out.avi'))) == 3
    text = capsys.readouterr().out
    assert '3 frames, ' in text and 'frames came during the work on another frame' in text


def test_a_camera_that_is_not_there(place, tmp_path, capsys):
    assert run(place, tmp_path / 'out.avi', source='98') == 2
    assert 'camera 98 gives no frames' in refused(capsys)
    assert not (tmp_path / 'out.avi').exists()


def test_a_file_is_no_folder_of_pictures(tmp_path):
    path = tmp_path / 'notes'
    path.write_text('text')
    with pytest.raises(ValueError, match='notes: expected a folder or a video ending in .avi'):
        PictureSink(path)
    assert path.read_text() == 'text'
