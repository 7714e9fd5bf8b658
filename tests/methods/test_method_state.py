"""A method takes over a state of its own and no other, and refuses before it changes anything."""

from copy import deepcopy

import pytest
import torch

from ecotta_seg.methods import build_method
from tests.methods.test_every_method import same
from tests.segmentors import build_segmentor

SGD = dict(type='SGD', lr=1e-2, momentum=0.9)
ADAM = dict(type='Adam', lr=1e-3)
TENT = dict(type='tent', optimizer=SGD)
CONFIGS = {
    'source': dict(type='source'),
    'frame': dict(type='batch_norm_statistics', mode='frame'),
    'tent': TENT,
    'tent, Adam': dict(type='tent', optimizer=ADAM),
    'tent, AdamW': dict(type='tent', optimizer=dict(ADAM, type='AdamW')),
    'eata': dict(type='eata', optimizer=SGD, entropy_threshold=0.8),
    'sar': dict(type='sar', optimizer=SGD, entropy_threshold=0.8, skip=[]),
    'cotta': dict(type='cotta', optimizer=ADAM, views=1),
    'rdumb': dict(TENT, reset_every=1000),
    'law': dict(TENT, layer_weights=dict()),
    'rdumb, law': dict(TENT, reset_every=1000, layer_weights=dict()),
    'ecotta': dict(type='ecotta', meta_networks=dict(num_parts=2), optimizer=SGD),
}
# As the files hold it that were written before states were checked.
KEYS = {
    'source': ({'tensors'}, None),
    'tent': ({'tensors', 'optimizer'}, None),
    'sar': ({'tensors', 'optimizer', 'mean_entropy'}, None),
    'cotta': ({'tensors', 'optimizer', 'generator'}, None),
    'rdumb': ({'tensors', 'optimizer', 'parts'}, {'reset_every': {'frames'}}),
    'law': ({'tensors', 'optimizer', 'parts'}, {'layer_weights': {'information'}}),
}


@pytest.fixture
def method(request, frames):
    """A method that has adapted to a frame."""
    built = build_method(CONFIGS[request.param], build_segmentor('deeplab')).eval()
    built.adapt(frames[0][0], frames[1])
    return built


@pytest.fixture(scope='module')
def states():
    """The state of each method after another frame."""
    image = torch.randn(1, 3, 61, 93, generator=torch.Generator().manual_seed(9))
    found = {}
    for name, config in CONFIGS.items():
        built = build_method(config, build_segmentor('deeplab')).eval()
        built.adapt(image, [dict(img_shape=(61, 93), ori_shape=(61, 93))])
        found[name] = built.method_state()
    return found


each_method = pytest.mark.parametrize('method', sorted(CONFIGS), indirect=True)


def _refused(method, state):
    before = method.method_state()
    with pytest.raises(ValueError, match='does not fit this method.*continue with the config'):
        method.load_method_state(state)
    assert same(method.method_state(), before)


@each_method
def test_states_of_other_methods_are_refused_and_nothing_is_changed(method, states, request):
    own = request.node.callspec.params['method']
    for name, state in states.items():
        # These two have the same to remember: nothing.
        if name != own and {name, own} != {'source', 'frame'}:
            _refused(method, state)
    method.load_method_state(states[own])
    assert same(method.method_state(), states[own])


@each_method
def test_damaged_states_are_refused_and_nothing_is_changed(method, states, request):
    own = states[request.node.callspec.params['method']]
    for key in own:
        _refused(method, {k: v for k, v in own.items() if k != key})
        _refused(method, {**own, key: 'x'})
    _refused(method, {**own, 'more': 1})
    _refused(method, None)
    parts = own.get('parts', {})
    for name, part in parts.items():
        _refused(method, {**own, 'parts': {k: v for k, v in parts.items() if k != name}})
        _refused(method, {**own, 'parts': {**parts, name: 'x'}})
        for key in part:
            _refused(method, {**own, 'parts': {**parts, name: {}}})
            _refused(method, {**own, 'parts': {**parts, name: {**part, key: 'x'}}})
    if 'optimizer' in own:
        _refused(method, {**own, 'optimizer': {**own['optimizer'], 'param_groups': []}})
        fewer = deepcopy(own)
        fewer['optimizer']['param_groups'][0]['params'].pop()
        _refused(method, fewer)


@pytest.mark.parametrize('name', sorted(KEYS))
def test_what_files_hold_has_stayed_the_same(name, states):
    keys, parts = KEYS[name]
    assert states[name].keys() == keys
    if parts is not None:
        assert {part: {*state} for part, state in states[name]['parts'].items()} == parts
    if 'optimizer' in keys:
        assert states[name]['optimizer'].keys() == {'state', 'param_groups'}


@pytest.mark.parametrize('method', ['rdumb'], indirect=True)
def test_a_state_of_a_method_around_another_names_the_earlier_version(method, states):
    state = {**states['tent'], 'outer': {'frames': 3}}
    with pytest.raises(ValueError, match='an earlier version of ecotta_seg saved it'):
        method.load_method_state(state)


@pytest.mark.parametrize('method', ['tent, Adam'], indirect=True)
def test_switches_of_another_torch_are_no_other_optimizer(method, states):
    state = deepcopy(states['tent, Adam'])
    group = state['optimizer']['param_groups'][0]
    for switch in ('fused', 'decoupled_weight_decay'):
        group.pop(switch, None)
    method.load_method_state(state)
    assert same(method.method_state()['tensors'], state['tensors'])
