import os

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ecotta_seg.resume.state_file import StateFileError, plain, read_state, write_state


def example():
    return {'tensor': torch.arange(6.0).reshape(2, 3), 'nested': [1, (2.5, None, 'ü')], 7: True}


def test_what_is_written_is_read(tmp_path):
    size = write_state(example(), tmp_path / 'a.pth')
    assert size == (tmp_path / 'a.pth').stat().st_size
    state = read_state(tmp_path / 'a.pth')
    assert torch.equal(state.pop('tensor'), example()['tensor'])
    assert state == {'nested': [1, (2.5, None, 'ü')], 7: True}


def test_numpy_becomes_plain_and_objects_are_refused():
    state = plain({'a': np.float64(1.5), 'b': np.arange(3, dtype=np.uint32), 'c': np.int8(4)})
    assert type(state['a']) is float and type(state['c']) is int
    assert state['b'].tolist() == [0, 1, 2]
    with pytest.raises(TypeError, match='not a PurePosixPath'):
        plain({'path': [__import__('pathlib').PurePosixPath('x')]})
    assert type(plain(torch.__version__)) is str


@pytest.fixture(scope='module')
def content(tmp_path_factory):
    path = tmp_path_factory.mktemp('state') / 'state.pth'
    write_state(example(), path)
    return path, path.read_bytes()


@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_any_damage_is_found(content, data):
    path, whole = content
    damaged = bytearray(whole)
    kind = data.draw(st.sampled_from(['cut', 'flip', 'zeros', 'insert']))
    place = data.draw(st.integers(0, len(whole) - 1))
    if kind == 'cut':
        damaged = damaged[:place]
    elif kind == 'flip':
        damaged[place] ^= data.draw(st.integers(1, 255))
    elif kind == 'zeros':
        damaged[place : place + 64] = bytes(min(64, len(whole) - place))
    else:
        damaged[place:place] = data.draw(st.binary(min_size=1, max_size=9))
    if bytes(damaged) == whole:
        return
    path = path.with_name('damaged.pth')
    path.write_bytes(damaged)
    with pytest.raises(StateFileError, match='damaged.pth'):
        read_state(path)


def test_a_crafted_state_runs_no_code(tmp_path):
    class Evil:
        def __reduce__(self):
            return os.system, (f'touch {tmp_path}/ran',)

    import hashlib
    import io

    import ecotta_seg.resume.state_file as state_file

    payload = io.BytesIO()
    torch.save({'evil': Evil()}, payload)
    payload = payload.getvalue()
    path = tmp_path / 'evil.pth'
    path.write_bytes(payload + state_file._MARK + hashlib.sha256(payload).digest())
    with pytest.raises(StateFileError, match='refused'):
        read_state(path)
    assert not (tmp_path / 'ran').exists()


def test_a_missing_file_and_something_else(tmp_path):
    with pytest.raises(StateFileError, match='No such file'):
        read_state(tmp_path / 'none.pth')
    write_state({'a': 1}, tmp_path / 'a.pth')
    before = (tmp_path / 'a.pth').read_bytes()
    with pytest.raises(TypeError):
        write_state({'a': object()}, tmp_path / 'a.pth')
    assert (tmp_path / 'a.pth').read_bytes() == before
    assert os.listdir(tmp_path) == ['a.pth']
