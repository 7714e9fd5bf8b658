"""Cameras and network streams: the newest frame, and what is left out."""

import functools
import http.server
import threading
import time

import cv2
import numpy as np
import pytest

from ecotta_seg.apis import live_source
from ecotta_seg.apis.live_source import LiveSource, live_address, shown_address


class Camera:
    """A camera whose frames come when ``show`` says so; frame n is n everywhere."""

    def __init__(self, frames, opened=True):
        self.frames, self.opened, self.released = frames, opened, False
        self.number, self.allowed = 0, threading.Semaphore(1)

    def show(self, count):
        for _ in range(count):
            self.allowed.release()

    def isOpened(self):
        return self.opened

    def get(self, key):
        return 25.0 if key == cv2.CAP_PROP_FPS else 0.0

    def read(self):
        if not self.allowed.acquire(timeout=5) or self.number >= self.frames:
            return False, None
        self.number += 1
        return True, np.full((4, 6, 3), self.number - 1, np.uint8)

    def release(self):
        self.released = True


def source_of(monkeypatch, camera):
    monkeypatch.setattr(live_source, '_opened', lambda address: camera)
    return LiveSource(0)


def wait_until(condition):
    end = time.monotonic() + 5
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.002)


def test_the_newest_frame_is_given_and_the_rest_counted(monkeypatch):
    camera = Camera(frames=7)
    source = source_of(monkeypatch, camera)
    assert source.rate == 25 and source.count is None
    seen = []
    for name, frame in source:
        seen.append((name, int(frame[0, 0, 0])))
        if len(seen) == 1:
            # While the first is worked on five more come.
            camera.show(5)
            wait_until(lambda: source._newest[0] == 5)
        elif len(seen) == 2:
            camera.show(1)
        else:
            camera.show(1)
    assert seen == [('000000', 0), ('000005', 5), ('000006', 6)]
    assert source.left_out == 4 and camera.released


def test_a_stop_ends_it_after_the_frame(monkeypatch):
    camera = Camera(frames=100)
    camera.show(100)
    source = source_of(monkeypatch, camera)
    for number, _ in enumerate(source):
        source.stop()
        assert number == 0
    assert camera.released


@pytest.mark.parametrize('camera', [Camera(0), Camera(3, opened=False)])
def test_a_camera_without_frames(monkeypatch, camera):
    with pytest.raises(ValueError, match='camera 0 gives no frames: expected the number') as raised:
        source_of(monkeypatch, camera)
    assert '\n' not in str(raised.value) and camera.released


def test_a_camera_that_is_not_there():
    with pytest.raises(ValueError, match='camera 97 gives no frames'):
        LiveSource(97)


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *args):
        pass


def test_a_stream_from_the_network(tmp_path):
    writer = cv2.VideoWriter(
        str(tmp_path / 'drive.avi'), cv2.VideoWriter_fourcc(*'MJPG'), 12, (48, 32)
    )
    for number in range(8):
        writer.write(np.full((32, 48, 3), 20 * number, np.uint8))
    writer.release()
    handler = functools.partial(Quiet, directory=str(tmp_path))
    with http.server.ThreadingHTTPServer(('127.0.0.1', 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        host = f'127.0.0.1:{server.server_port}'
        source = LiveSource(f'http://{host}/drive.avi')
        seen = [(int(name), frame) for name, frame in source]
        with pytest.raises(ValueError) as raised:
            LiveSource(f'http://driver:secret@{host}/nothing.avi')
        server.shutdown()
    assert source.rate == 12 and seen[-1][0] == 7
    assert len(seen) + source.left_out == 8
    for number, frame in seen:
        assert frame.shape == (32, 48, 3) and abs(float(frame.mean()) - 20 * number) < 4
    assert 'secret' not in str(raised.value) and host in str(raised.value)


@pytest.mark.parametrize(('text', 'address'), [
    ('0', 0), ('12', 12), ('rtsp://camera/stream', 'rtsp://camera/stream'), ('./0', None),
    ('udp://@:5000', 'udp://@:5000'), ('drive.mp4', None), ('/data/0', None), ('', None),
])  # fmt: skip
def test_what_is_live(text, address):
    assert live_address(text) == address


def test_passwords_are_not_shown():
    assert shown_address('rtsp://user:pa:ss@camera:554/a') == 'rtsp://camera:554/a'
    assert shown_address(3) == 'camera 3'
