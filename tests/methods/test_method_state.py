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
    'rdumb': dict(type='rdumb', method=TENT),
    'law': dict(type='law', method=TENT),
    'law, rdumb': dict(type='law', method=dict(type='rdumb', method=TENT)),
    'rdumb, law': dict(type='rdumb', method=dict(type='law', method=TENT)),
    'ecotta': dict(type='ecotta', meta_networks=dict(num_parts=2), optimizer=SGD),
}
# As the files hold it that were written before states were checked.
KEYS = {
    'source': ({'tensors'}, None),
    'tent': ({'tensors', 'optimizer'}, None),
    'sar': ({'tensors', 'optimizer', 'mean_entropy'}, None),
    'cotta': ({'tensors', 'optimizer', 'generator'}, None),
    'rdumb': ({'tensors', 'optimizer', 'outer'}, {'frames'}),
    'law': ({'tensors', 'optimizer', 'outer'}, {'information'}),
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
    if 'outer' in own:
        for key in own['outer']:
            _refused(method, {**own, 'outer': {k: v for k, v in own['outer'].items() if k != key}})
            _refused(method, {**own, 'outer': {**own['outer'], key: 'x'}})
    if 'optimizer' in own:
        _refused(method, {**own, 'optimizer': {**own['optimizer'], 'param_groups': []}})
        fewer = deepcopy(own)
        fewer['optimizer']['param_groups'][0]['params'].pop()
        _refused(method, fewer)


@pytest.mark.parametrize('name', sorted(KEYS))
def test_what_files_hold_has_stayed_the_same(name, states):
    keys, outer = KEYS[name]
    assert states[name].keys() == keys
    assert outer is None or states[name]['outer'].keys() == outer
    if 'optimizer' in keys:
        assert states[name]['optimizer'].keys() == {'state', 'param_groups'}


@pytest.mark.parametrize('method', ['tent, Adam'], indirect=True)
def test_switches_of_another_torch_are_no_other_optimizer(method, states):
    state = deepcopy(states['tent, Adam'])
    group = state['optimizer']['param_groups'][0]
    for switch in ('fused', 'decoupled_weight_decay'):
        group.pop(switch, None)
    method.load_method_state(state)
    assert same(method.method_state()['tensors'], state['tensors'])
