"""A picture is whole or not there, on a full disk too."""

import resource
import signal
from contextlib import contextmanager

import cv2
import numpy as np
import pytest

from ecotta_seg.files.png_file import atomic_write_png


@contextmanager
def full_disk(most_bytes):
    """No file may have more bytes than that."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (most_bytes, before[1]))
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


def test_a_full_disk_is_an_error_that_names_the_file_and_leaves_the_old_one(tmp_path):
    path = tmp_path / 'folder' / 'a.png'
    old = np.arange(12, dtype=np.uint8).reshape(3, 4)
    atomic_write_png(path, old)
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    with full_disk(1000), pytest.raises(OSError) as raised:
        atomic_write_png(path, noise)
    assert raised.value.filename == str(path) and raised.value.strerror
    assert list(path.parent.iterdir()) == [path]
    assert np.array_equal(cv2.imread(str(path), cv2.IMREAD_UNCHANGED), old)
    atomic_write_png(path, noise, compression=9)
    assert np.array_equal(cv2.imread(str(path)), noise)
