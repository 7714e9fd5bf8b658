"""``updated`` says that a parameter changed."""

import pytest
import torch

from ecotta_seg.methods import build_method
from tests.segmentors import build_segmentor


def _tent(**optimizer):
    options = dict(type='tent', optimizer=dict(dict(type='SGD', lr=0.1), **optimizer))
    return build_method(options, build_segmentor('deeplab')).eval()


def _step(method, scale):
    """An update by gradients that are ones times a number."""
    before = [p.detach().clone() for p in method.adaptable_parameters().values()]
    for parameter in method.adaptable_parameters().values():
        parameter.grad = torch.full_like(parameter, scale)
    method.last_step.updated = False
    method.update()
    after = method.adaptable_parameters().values()
    changed = any(not torch.equal(old, new) for old, new in zip(before, after))
    assert method.last_step.updated == changed
    return changed


@pytest.mark.parametrize('kind', ['SGD', 'Adam'])
def test_gradients_of_zero_are_no_update(kind):
    method = _tent(type=kind)
    assert not _step(method, 0.0)
    assert _step(method, 1.0)


@pytest.mark.parametrize('options', [dict(momentum=0.9), dict(type='Adam')])
def test_momentum_goes_on_without_gradients(options):
    method = _tent(**options)
    assert _step(method, 1.0) and _step(method, 0.0)
    method.reset()
    assert not _step(method, 0.0)


def test_a_rate_of_zero_is_no_update():
    assert not _step(_tent(lr=0.0, momentum=0.9), 1.0)
