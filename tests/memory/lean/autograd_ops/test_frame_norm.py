"""BatchNorm by the frame's part of a map, against plain autograd and torch's own BatchNorm."""

import pytest
import torch
import torch.nn.functional as F

from ecotta_seg.memory.lean.autograd_ops.frame_norm import frame_batch_norm, frame_statistics
from ecotta_seg.memory.lean.autograd_ops.frame_region import FrameRegion

REGION = FrameRegion(6, 8, (0, 5), (1, 6))


def _random(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def _by_hand(x, weight, bias, eps):
    frame = x[:, :, :5, 1:6]
    mean = frame.mean((0, 2, 3), keepdim=True)
    var = (frame - mean).square().mean((0, 2, 3), keepdim=True)
    y = (x - mean) / (var + eps).sqrt()
    return y if weight is None else y * weight.view(-1, 1, 1) + bias.view(-1, 1, 1)


@pytest.mark.parametrize('batch', [1, 2])
@pytest.mark.parametrize('affine', [True, False])
def test_value_and_gradients(batch, affine):
    leaves = [_random(batch, 3, 6, 8), _random(3, seed=1), _random(3, seed=2)]
    leaves = [leaf.requires_grad_() for leaf in (leaves if affine else leaves[:1])]
    grad = _random(batch, 3, 6, 8, seed=3)
    results = []
    for norm in (lambda *args: frame_batch_norm(*args, REGION), _by_hand):
        y = norm(*leaves, *(() if affine else (None, None)), 1e-5)
        results.append((y.detach(), *torch.autograd.grad(y, leaves, grad)))
    for ours, expected in zip(*results):
        assert torch.allclose(ours, expected, 1e-9, 1e-12)


def test_the_whole_map_as_torch():
    x, weight, bias = _random(1, 3, 6, 8), _random(3, seed=1), _random(3, seed=2)
    leaves = [leaf.requires_grad_() for leaf in (x, weight, bias)]
    region = FrameRegion(6, 8, (0, 6), (0, 8))
    grad, results = _random(1, 3, 6, 8, seed=3), []
    for y in (
        frame_batch_norm(*leaves, 1e-5, region),
        F.batch_norm(x, None, None, weight, bias, True, 0.0, 1e-5),
    ):
        results.append((y.detach(), *torch.autograd.grad(y, leaves, grad)))
    for ours, expected in zip(*results):
        assert torch.allclose(ours, expected, 1e-9, 1e-12)


def test_statistics_are_those_of_the_frame_bit_for_bit():
    frame = _random(1, 3, 5, 5).float()
    padded = torch.full((1, 3, 6, 8), 1000.0)
    padded[:, :, :5, 1:6] = frame
    for ours, expected in zip(frame_statistics(padded, REGION), frame_statistics(frame)):
        assert torch.equal(ours, expected)


def test_half_the_width_is_measured_in_float32():
    x = (_random(1, 3, 6, 8) + 100).bfloat16()
    weight, bias = torch.ones(3), torch.zeros(3)
    y = frame_batch_norm(x.requires_grad_(), weight.requires_grad_(), bias, 1e-5, REGION)
    y.float().square().sum().backward()
    expected = _by_hand(x.detach().double(), None, None, 1e-5)
    assert y.dtype == x.grad.dtype == torch.bfloat16 and weight.grad.dtype == torch.float32
    assert torch.allclose(y.detach().double(), expected, 0.01, 0.01)
