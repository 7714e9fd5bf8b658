"""Files damaged byte by byte: what is whole comes out, or one clear sentence."""

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ecotta_seg.config.config import read_config
from ecotta_seg.files.checkpoint import load_source
from ecotta_seg.layers.fisher import read_fisher, write_fisher
from ecotta_seg.meta_networks import load_adapters, save_adapters
from ecotta_seg.methods import build_method
from tests.damage import damaged
from tests.segmentors import build_segmentor

ANY_FIXTURE = dict(deadline=None, suppress_health_check=list(HealthCheck))


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    """Holds a small checkpoint and a small config."""
    folder = tmp_path_factory.mktemp('damaged')
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4))
    torch.save({'state_dict': model.state_dict(), 'meta': {'iter': 3}}, folder / 'whole.pth')
    (folder / 'whole.py').write_text(
        "model = dict(type='A', b=[1, 2])\nadaptation = dict(lr=1.0)\n"
    )
    return folder


@settings(max_examples=100, **ANY_FIXTURE)
@given(data=st.data())
def test_a_damaged_checkpoint(folder, data):
    path = folder / 'damaged.pth'
    path.write_bytes(damaged((folder / 'whole.pth').read_bytes(), data))
    model = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    try:
        load_source(model, path)
        expected = torch.load(folder / 'whole.pth', weights_only=True)['state_dict']
    except ValueError as error:
        assert 'damaged.pth' in str(error) and '\n' not in str(error)
        expected = before
    # All of what was written, or nothing.
    assert all(torch.equal(expected[n], value) for n, value in model.state_dict().items())


@settings(max_examples=60, **ANY_FIXTURE)
@given(data=st.data())
def test_a_damaged_config(folder, data):
    path = folder / 'damaged.py'
    path.write_bytes(damaged((folder / 'whole.py').read_bytes(), data))
    try:
        read_config(path)
    except ValueError as error:
        assert 'damaged.py' in str(error) and '\n' not in str(error)


@pytest.fixture(scope='module')
def encoder(folder):
    """A tiny model's encoder, whose adapters are in ``adapters.pth``."""
    options = dict(
        type='ecotta', meta_networks=dict(num_parts=3), optimizer=dict(type='SGD', lr=0.1)
    )
    encoder = build_method(options, build_segmentor('deeplab')).encoder
    save_adapters(encoder, folder / 'adapters.pth')
    return encoder


@settings(max_examples=100, **ANY_FIXTURE)
@given(data=st.data())
def test_damaged_adapters(folder, encoder, data):
    path = folder / 'damaged_adapters.pth'
    path.write_bytes(damaged((folder / 'adapters.pth').read_bytes(), data))
    before = {name: value.clone() for name, value in encoder.state_dict().items()}
    try:
        # Not what is in the file: that it comes from there has to show.
        for parameter in encoder.meta_networks.parameters():
            parameter.data.add_(1.0)
        changed = {name: value.clone() for name, value in encoder.state_dict().items()}
        try:
            load_adapters(encoder, path)
            expected = before
        except ValueError as error:
            assert 'damaged_adapters.pth' in str(error) and '\n' not in str(error)
            expected = changed
        assert all(torch.equal(expected[n], value) for n, value in encoder.state_dict().items())
    finally:
        encoder.load_state_dict(before)


@settings(max_examples=100, **ANY_FIXTURE)
@given(data=st.data())
def test_a_flipped_bit_in_the_weights_is_found(folder, encoder, data):
    content = bytearray((folder / 'adapters.pth').read_bytes())
    # Between the first entry's pickle and the list of entries: where the tensors are.
    content[data.draw(st.integers(len(content) // 8, len(content) * 7 // 8))] ^= 1 << data.draw(
        st.integers(0, 7)
    )
    path = folder / 'flipped_adapters.pth'
    path.write_bytes(content)
    before = {name: value.clone() for name, value in encoder.state_dict().items()}
    try:
        load_adapters(encoder, path)
    except ValueError as error:
        assert 'flipped_adapters.pth is damaged' in str(error)
    assert all(torch.equal(before[n], value) for n, value in encoder.state_dict().items())


def test_adapters_that_are_not_finite_are_refused(folder, encoder):
    state = torch.load(folder / 'adapters.pth', weights_only=True)
    name = next(iter(state['state_dict']))
    state['state_dict'][name].view(-1)[0] = float('nan')
    torch.save(state, folder / 'nan.pth')
    with pytest.raises(ValueError, match=f'{name} is not finite'):
        load_adapters(encoder, folder / 'nan.pth')


@settings(max_examples=60, **ANY_FIXTURE)
@given(data=st.data())
def test_damaged_fisher_information(folder, data):
    parameters = {'a.weight': torch.ones(3, 4), 'a.bias': torch.ones(4)}
    write_fisher(parameters, folder / 'fisher.pth')
    path = folder / 'damaged_fisher.pth'
    path.write_bytes(damaged((folder / 'fisher.pth').read_bytes(), data))
    try:
        found = read_fisher(path, parameters)
        assert found.keys() == parameters.keys()
        assert all(torch.equal(found[name], parameters[name]) for name in parameters)
    except ValueError as error:
        assert 'damaged_fisher.pth' in str(error) and '\n' not in str(error)
