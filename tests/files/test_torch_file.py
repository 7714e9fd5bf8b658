"""A file of tensors is whole or not there, on a full disk too."""

import pytest
import torch

from ecotta_seg.files.torch_file import load_whole, save_whole
from tests.files.test_png_file import full_disk


@pytest.mark.parametrize('most_bytes', [0, 1000, 20_000, 39_000])
def test_a_full_disk_is_an_error_that_names_the_file_and_leaves_the_old_one(tmp_path, most_bytes):
    path = tmp_path / 'folder' / 'a.pth'
    old = {'weight': torch.arange(5.0)}
    save_whole(old, path)
    with full_disk(most_bytes), pytest.raises(OSError) as raised:
        save_whole({'weight': torch.randn(10_000)}, path)
    assert raised.value.filename == str(path) and raised.value.strerror
    assert list(path.parent.iterdir()) == [path]
    assert torch.equal(load_whole(path)['weight'], old['weight'])
