"""A file is the old one or the new one, never a part."""

import errno
import os
import stat

import pytest

from ecotta_seg.files.atomic_io import atomic_write, atomic_write_text


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / 'a.txt'
    path.write_text('old')
    with pytest.raises(RuntimeError), atomic_write(path) as temporary:
        temporary.write_text('half')
        raise RuntimeError
    assert path.read_text() == 'old' and list(tmp_path.iterdir()) == [path]


def test_the_new_file_is_whole_and_readable(tmp_path):
    path = tmp_path / 'folder' / 'a.txt'
    atomic_write_text(path, 'new ü')
    assert path.read_text(encoding='utf-8') == 'new ü'
    assert path.stat().st_mode & stat.S_IRUSR and list(path.parent.iterdir()) == [path]
    with atomic_write(path) as temporary:
        assert temporary.suffix == '.txt' and temporary.parent == path.parent
        temporary.write_text('newer')
        assert path.read_text(encoding='utf-8') == 'new ü'
    assert path.read_text() == 'newer'


def test_an_error_of_the_system_names_the_file_that_was_to_be_written(tmp_path):
    path = tmp_path / 'a.txt'
    with pytest.raises(OSError) as raised, atomic_write(path) as temporary:
        raise OSError(errno.ENOSPC, 'No space left on device')
    assert raised.value.filename == str(path) and raised.value.errno == errno.ENOSPC
    with pytest.raises(FileNotFoundError) as raised, atomic_write(path) as temporary:
        temporary.unlink()
    assert raised.value.filename == str(path)
    with pytest.raises(FileNotFoundError) as raised, atomic_write(path):
        (tmp_path / 'other').read_text()
    assert raised.value.filename == str(tmp_path / 'other')


def test_a_pipe_or_a_device_is_not_replaced(tmp_path):
    pipe = tmp_path / 'pipe'
    os.mkfifo(pipe)
    with pytest.raises(OSError, match='got a device or a pipe') as raised:
        atomic_write_text(pipe, 'text')
    assert raised.value.filename == str(pipe)
    assert stat.S_ISFIFO(pipe.stat().st_mode) and list(tmp_path.iterdir()) == [pipe]
