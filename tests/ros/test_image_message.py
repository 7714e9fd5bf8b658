"""Each encoding of an image becomes the frame that was put into it."""

from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from ecotta_seg.ros.image_message import EncodingError, ImageMessageError, frame_of
from ecotta_seg.ros.messages import COMPRESSED, IMAGE

BGR = np.random.default_rng(0).integers(0, 256, (6, 8, 3)).astype(np.uint8)


def message(pixels, encoding, padding=0):
    rows = pixels.reshape(pixels.shape[0], -1)
    rows = np.pad(rows, ((0, 0), (0, padding)), constant_values=77)
    return SimpleNamespace(
        height=pixels.shape[0], width=pixels.shape[1], encoding=encoding, is_bigendian=0,
        step=rows.shape[1], data=rows.tobytes(),
    )  # fmt: skip


@pytest.mark.parametrize('padding', [0, 5])
@pytest.mark.parametrize(('encoding', 'order'), [
    ('bgr8', [0, 1, 2]), ('8UC3', [0, 1, 2]), ('rgb8', [2, 1, 0]), ('bgra8', [0, 1, 2, 0]),
    ('8UC4', [0, 1, 2, 0]), ('rgba8', [2, 1, 0, 1]),
])  # fmt: skip
def test_colours_and_padded_rows(encoding, order, padding):
    pixels = np.ascontiguousarray(BGR[..., order])
    assert np.array_equal(frame_of(message(pixels, encoding, padding), IMAGE), BGR)


def test_grey():
    grey = BGR[..., 0]
    found = message(np.ascontiguousarray(grey), 'mono8', 3)
    assert np.array_equal(frame_of(found, IMAGE), np.repeat(grey[..., None], 3, 2))
    assert np.array_equal(frame_of(found, IMAGE, channels=1), grey)
    assert frame_of(message(BGR, 'bgr8'), IMAGE, channels=1).shape == (6, 8)


@pytest.mark.parametrize('pattern', ['rggb', 'bggr', 'gbrg', 'grbg'])
def test_patterns_of_a_sensor(pattern):
    colour = {'b': 30, 'g': 120, 'r': 220}
    cell = np.array([colour[letter] for letter in pattern], np.uint8).reshape(2, 2)
    frame = frame_of(message(np.tile(cell, (6, 8)), f'bayer_{pattern}8'), IMAGE)
    assert frame.shape == (12, 16, 3)
    assert np.array_equal(np.unique(frame[2:-2, 2:-2].reshape(-1, 3), axis=0), [[30, 120, 220]])


@pytest.mark.parametrize(('encoding', 'places'), [
    ('yuv422', (1, 0, 2)), ('uyvy', (1, 0, 2)), ('yuv422_yuy2', (0, 1, 3)), ('yuyv', (0, 1, 3)),
])  # fmt: skip
def test_luminance_and_halved_colour(encoding, places):
    # Red by ITU-R BT.601, in the range from 16 to 235.
    y, u, v = 81, 90, 240
    pair = np.full(4, y, np.uint8)
    pair[places[1]], pair[places[2]] = u, v
    pixels = np.tile(pair, (4, 3)).reshape(4, 6, 2)
    frame = frame_of(message(pixels, encoding), IMAGE)
    assert np.abs(frame.astype(int) - [0, 0, 254]).max() <= 2


@pytest.mark.parametrize(('ending', 'told', 'error'), [
    ('.png', 'png', 0), ('.png', 'bgr8; png compressed bgr8', 0), ('.bmp', 'bmp', 0),
    ('.jpg', 'jpeg', 12), ('.jpg', 'rgb8; jpeg compressed bgr8', 12),
])  # fmt: skip
def test_compressed_images(ending, told, error):
    smooth = cv2.resize(BGR[:3, :3], (48, 32), interpolation=cv2.INTER_LINEAR)
    content = cv2.imencode(ending, smooth)[1].tobytes()
    frame = frame_of(SimpleNamespace(format=told, data=content), COMPRESSED)
    assert frame.shape == smooth.shape
    assert np.abs(frame.astype(int) - smooth).mean() <= error
    grey = frame_of(SimpleNamespace(format=told, data=content), COMPRESSED, channels=1)
    assert grey.shape == smooth.shape[:2]


@pytest.mark.parametrize('encoding', ['16UC1', '32FC1', 'mono16', 'rgb16', 'nv12', ''])
def test_other_encodings(encoding):
    with pytest.raises(EncodingError, match='expected images in one of the encodings bgr8'):
        frame_of(message(BGR, encoding), IMAGE)


@pytest.mark.parametrize('told', [
    'h264', '', 'jxl', '16UC1; png compressed 16UC1', '32FC1; compressedDepth png',
])  # fmt: skip
def test_other_compressions(told):
    with pytest.raises(EncodingError, match='got the format'):
        frame_of(SimpleNamespace(format=told, data=b'abc'), COMPRESSED)


def test_data_that_does_not_fit():
    for change in (dict(height=7), dict(step=20), dict(width=0), dict(height=0), dict(data=b'')):
        damaged = SimpleNamespace(**{**vars(message(BGR, 'bgr8')), **change})
        with pytest.raises(ImageMessageError, match='bytes of'):
            frame_of(damaged, IMAGE)
    with pytest.raises(ImageMessageError):
        frame_of(message(BGR[:, :7, :2], 'uyvy'), IMAGE)
    content = cv2.imencode('.png', BGR)[1].tobytes()
    for data in (content[:-9], b'', b'nothing'):
        with pytest.raises(ImageMessageError, match='cut off'):
            frame_of(SimpleNamespace(format='png', data=data), COMPRESSED)
    with pytest.raises(ValueError, match='takes 4 channels'):
        frame_of(message(BGR, 'bgr8'), IMAGE, channels=4)
