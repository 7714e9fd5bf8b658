"""The error of one bad frame, and the check of encoded images."""

import pickle

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from torch._utils import ExceptionWrapper

from ecotta_seg.datasets.checks.frame_error import FrameError, check_image_bytes

IMAGE = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
PNG = cv2.imencode('.png', IMAGE)[1].tobytes()
JPEG = cv2.imencode('.jpg', IMAGE)[1].tobytes()


def test_a_worker_traceback_is_cut_off_again():
    try:
        raise FrameError.at('a/b.png', 'the file is empty')
    except FrameError:
        wrapped = ExceptionWrapper(where='in DataLoader worker process 0')
    assert 'Traceback' in wrapped.exc_msg
    with pytest.raises(FrameError) as raised:
        wrapped.reraise()
    assert str(raised.value) == 'a/b.png: the file is empty'
    assert raised.value.path == 'a/b.png'


def test_it_is_a_value_error_and_can_be_pickled():
    error = pickle.loads(pickle.dumps(FrameError.at('x: y.png', 'broken')))
    assert isinstance(error, ValueError)
    assert (error.path, str(error)) == ('x: y.png', 'x: y.png: broken')


@pytest.mark.parametrize('content', [PNG, JPEG, b'BM' + bytes(60)], ids=['png', 'jpeg', 'other'])
def test_whole_files_pass(content):
    check_image_bytes('a', content)
    check_image_bytes('a', content + b'trailing bytes')


def test_empty_file_is_named():
    with pytest.raises(FrameError, match=r'^a/b\.png: the file is empty'):
        check_image_bytes('a/b.png', b'')


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_every_truncation_is_found(data):
    whole = data.draw(st.sampled_from([PNG, JPEG]))
    cut = data.draw(st.integers(8, len(whole) - 1))
    with pytest.raises(FrameError, match='truncated'):
        check_image_bytes('a', whole[:cut])


@settings(max_examples=60, deadline=None)
@given(st.integers(12, len(PNG) - 1), st.integers(1, 255))
def test_every_changed_byte_of_a_png_is_found(position, change):
    damaged = bytearray(PNG)
    damaged[position] ^= change
    with pytest.raises(FrameError):
        check_image_bytes('a', bytes(damaged))


def test_an_exif_thumbnail_does_not_hide_a_truncation():
    # A segment that holds a whole small JPEG, end marker included, before a scan without one.
    thumbnail = JPEG[:400] + b'\xff\xd9'
    segment = b'\xff\xe1' + (len(thumbnail) + 2).to_bytes(2, 'big') + thumbnail
    picture = JPEG[:2] + segment + JPEG[2:]
    check_image_bytes('a', picture)
    with pytest.raises(FrameError, match='truncated'):
        check_image_bytes('a', picture[:-20])
