"""A folder is whole or not there."""

import pytest

from ecotta_seg.files.atomic_folder import atomic_folder, move_new


def test_what_is_whole_is_put_in_place(tmp_path):
    with atomic_folder(tmp_path / 'new' / 'out') as folder:
        (folder / 'part').mkdir()
        (folder / 'part/a').write_text('a')
        assert not (tmp_path / 'new/out').exists()
        move_new(folder / 'part', tmp_path / 'new/out')
    assert [p.name for p in (tmp_path / 'new').iterdir()] == ['out']
    assert (tmp_path / 'new/out/a').read_text() == 'a'


def test_an_error_leaves_nothing_and_nothing_is_written_over(tmp_path):
    with pytest.raises(RuntimeError):
        with atomic_folder(tmp_path / 'out') as folder:
            (folder / 'a').write_text('a')
            raise RuntimeError
    assert not list(tmp_path.iterdir())
    (tmp_path / 'out').write_text('mine')
    with pytest.raises(FileExistsError, match='out exists already'):
        with atomic_folder(tmp_path / 'out') as folder:
            (folder / 'a').write_text('a')
            move_new(folder / 'a', tmp_path / 'out')
    assert [p.name for p in tmp_path.iterdir()] == ['out']
    assert (tmp_path / 'out').read_text() == 'mine'
