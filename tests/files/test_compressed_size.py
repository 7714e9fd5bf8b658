"""The compressed size against zlib in one call."""

import zlib

import numpy as np

from ecotta_seg.files.compressed_size import compressed_size


def test_it_is_the_size_after_deflate(tmp_path):
    path = tmp_path / 'numbers'
    random = np.random.default_rng(0).integers(0, 256, 1 << 20, np.uint8).tobytes()
    for content in (b'', bytes(3 << 20), random + bytes(1 << 21)):
        path.write_bytes(content)
        assert compressed_size(path) == len(zlib.compress(content))
