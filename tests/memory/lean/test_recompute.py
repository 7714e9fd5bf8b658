"""Recomputed modules against the same modules kept: gradients, memory, and what cannot be."""

from contextlib import nullcontext

import pytest
import torch
from torch import nn

from ecotta_seg.memory import StorageMeter
from ecotta_seg.memory.lean import LeanAutograd
from ecotta_seg.memory.lean.recompute import recomputing


class _Block(nn.Module):
    def __init__(self, learns=False):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(8, 16, 3, padding=1), nn.BatchNorm2d(16)
        self.out = nn.Conv2d(16, 8, 1)
        self.requires_grad_(False)
        self.norm.requires_grad_(learns)

    def forward(self, x, scale=1.0):
        return {'map': (x + scale * self.out(torch.relu_(self.norm(self.conv(x)))),)}


class _Network(nn.Module):
    def __init__(self, learns):
        super().__init__()
        self.blocks = nn.ModuleList(_Block(learns) for _ in range(6))

    def forward(self, x):
        for block in self.blocks:
            x = block(x, scale=0.5)['map'][0]
        return x


def _run(learns, modules, lean=True):
    torch.manual_seed(0)
    network = _Network(learns).double().eval()
    x = torch.randn(1, 8, 32, 40, dtype=torch.float64, requires_grad=True)
    context = LeanAutograd() if lean else nullcontext()
    with StorageMeter() as meter, recomputing(network.blocks[:modules]), context:
        network(x).square().sum().backward()
    gradients = [x.grad, *(p.grad for p in network.parameters() if p.requires_grad)]
    assert 'forward' not in vars(network.blocks[0])
    return gradients, meter.peak_bytes


@pytest.mark.parametrize('learns', [True, False])
def test_same_gradients(learns):
    expected, plain = _run(learns, 0, lean=False)
    kept, lean = _run(learns, 0)
    again, recomputed = _run(learns, 6)
    assert len(again) == len(expected) == (13 if learns else 1)
    for ours, recomputed_ones, reference in zip(kept, again, expected):
        assert torch.equal(ours, recomputed_ones)
        assert torch.allclose(ours, reference, 1e-11, 1e-13)
    assert lean < plain
    if learns:
        # Of each block the input is kept, not the input of the norm beside it.
        assert recomputed < 0.8 * lean


def test_a_module_without_gradients_runs_once():
    block, calls = _Block(), []
    block.conv.register_forward_hook(lambda *_: calls.append(1))
    x = torch.randn(1, 8, 8, 8)
    with recomputing([block]), LeanAutograd():
        block(x)
        with torch.no_grad():
            block(x.clone().requires_grad_())
    assert len(calls) == 2


def test_random_layers_draw_the_same_again():
    network = nn.Sequential(nn.Dropout(0.5), nn.Conv2d(3, 3, 1)).train()
    x = torch.randn(1, 3, 6, 6, requires_grad=True)
    with recomputing([network]):
        y = network(x)
        gradient = torch.autograd.grad(y.sum(), x)[0]
    passed = gradient.abs().sum(1) > 0
    assert 0 < passed.float().mean() <= 1 and torch.isfinite(gradient).all()


def test_an_input_that_is_overwritten_stops():
    block = _Block()
    x = torch.randn(1, 8, 8, 8, requires_grad=True)
    with recomputing([block]), LeanAutograd():
        y = 2 * x
        z = block(y)['map'][0]
        y.mul_(3)
        with pytest.raises(RuntimeError, match='modified by an inplace operation'):
            (z + y).sum().backward()


def test_modules_are_themselves_again_after_an_error():
    block = _Block()
    with pytest.raises(ZeroDivisionError), recomputing([block]):
        raise ZeroDivisionError
    assert 'forward' not in vars(block)


def test_modules_without_data_are_recomputed_as_those_with_data():
    peaks = []
    for device in ('cpu', 'meta'):
        network = _Network(True).double().eval().to(device)
        for _ in range(2):
            # Tables of flags are made once.
            x = torch.randn(1, 8, 32, 40, dtype=torch.float64, device=device, requires_grad=True)
            with StorageMeter(device=device) as meter, recomputing(network.blocks), LeanAutograd():
                network(x).square().sum().backward()
            network.zero_grad(set_to_none=True)
        peaks.append(meter.peak_bytes)
    assert peaks[0] <= peaks[1] <= 1.05 * peaks[0]
