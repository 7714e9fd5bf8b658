import hashlib

import pytest

from ecotta_seg.files.file_digest import file_digest


@pytest.mark.parametrize('size', [0, 1, 2**20, 2**20 + 1])
def test_it_is_the_beginning_of_the_sha256(tmp_path, size):
    content = bytes(range(256)) * (size // 256) + b'x' * (size % 256)
    (tmp_path / 'file').write_bytes(content)
    assert file_digest(tmp_path / 'file') == hashlib.sha256(content).hexdigest()[:16]
