"""The mode itself: what it leaves alone, and any mmseg model under it."""

import copy
from contextlib import ExitStack

import pytest
import torch
from torch import nn

from ecotta_seg.memory.lean import LeanAutograd, lean_autograd, plain_autograd


def test_a_context_that_does_nothing():
    x = torch.randn(3, requires_grad=True)
    with plain_autograd(), plain_autograd(False), lean_autograd():
        assert type(x.relu().grad_fn).__name__ == 'ReluBackward0'
    with plain_autograd(False), lean_autograd():
        assert type(x.relu().grad_fn).__name__ != 'ReluBackward0'
    with lean_autograd():
        assert type(x.relu().grad_fn).__name__ != 'ReluBackward0'


def test_functions_are_torchs_own_afterwards():
    x = torch.randn(3, requires_grad=True)
    with pytest.raises(ZeroDivisionError), LeanAutograd():
        raise ZeroDivisionError
    assert type(x.relu().grad_fn).__name__ == 'ReluBackward0'


@pytest.mark.parametrize('modes', [1, 2])
def test_modes_can_be_nested_and_recomputed(modes):
    """As mmseg's ``with_cp=True`` recomputes blocks."""
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2))
    net = net.double().eval().requires_grad_(False)
    x = torch.randn(1, 3, 12, 12, dtype=torch.float64, requires_grad=True)
    expected = torch.autograd.grad(net(x).square().sum(), x)[0]
    with ExitStack() as stack:
        for _ in range(modes):
            stack.enter_context(LeanAutograd())
        y = torch.utils.checkpoint.checkpoint(net, x, use_reentrant=True)
        y.square().sum().backward()
    assert torch.allclose(x.grad, expected, 1e-11, 1e-13)


def test_in_place_layers_on_shared_maps():
    """A block that adds its input to what an in-place ReLU overwrites stops as in torch."""

    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(4, 4, 3, padding=1).requires_grad_(False)
            self.relu = nn.ReLU(inplace=True)

        def forward(self, x):
            y = self.conv(x)
            z = y * y
            return self.relu(y) + z

    block, x = Block(), torch.randn(1, 4, 6, 6, requires_grad=True)
    for lean in (False, True):
        with pytest.raises(RuntimeError, match='modified by an inplace operation'):
            with plain_autograd(not lean), lean_autograd():
                block(x).sum().backward()


def test_a_copy_of_a_layer_is_a_layer_of_torch():
    """The mode leaves nothing in modules: copies, state dicts and pickles are as before."""
    layer = nn.Conv2d(3, 4, 3).requires_grad_(False)
    before = set(vars(layer))
    with LeanAutograd():
        layer(torch.randn(1, 3, 8, 8, requires_grad=True))
    assert set(vars(layer)) == before and set(vars(copy.deepcopy(layer))) == before
