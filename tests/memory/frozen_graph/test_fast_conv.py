"""Frozen convolutions in faster ways against torch's own."""

import pytest
import torch
from mmcv.cnn import ConvModule
from torch import nn

from ecotta_seg.memory.frozen_graph import Tape, build_operator, fast_conv, replace_convolutions
from ecotta_seg.memory.frozen_graph.fast_conv import PointwiseConv2d, WinogradConv2d
from ecotta_seg.memory.lean.autograd_ops import winograd


@pytest.fixture(autouse=True)
def narrow(monkeypatch):
    """They gain from four channels on."""
    monkeypatch.setattr(fast_conv, '_SOME', 4)
    monkeypatch.setattr(fast_conv, '_MANY', 4)
    monkeypatch.setattr(winograd, '_FEW', 4)
    monkeypatch.setattr(winograd, '_MANY', 4)
    # Decisions are cached by the shape of the kernel.
    winograd.is_faster.cache_clear()
    yield
    winograd.is_faster.cache_clear()


def _model(dilation=1):
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1),
        ConvModule(8, 6, 3, padding=dilation, dilation=dilation, norm_cfg=dict(type='BN')),
        nn.Conv2d(6, 6, 3, padding=1, groups=6),
        nn.Conv2d(6, 8, 3, padding=1, bias=True),
        nn.Conv2d(8, 8, 3, stride=2, padding=1),
        nn.Conv2d(8, 8, 3, padding=1, padding_mode='reflect'),
        nn.Conv2d(8, 5, 1),
        nn.Conv2d(5, 3, 1),
        nn.Conv2d(3, 4, 1, stride=2),
    )
    return model.double().eval().requires_grad_(False)


@pytest.mark.parametrize('dilation', [1, 2])
def test_the_wide_ones_are_replaced_and_compute_the_same(dilation):
    model = _model(dilation)
    x = torch.randn(2, 3, 13, 18, dtype=torch.float64)
    expected, names = model(x), list(model.state_dict())
    tensors = {name: tensor.data_ptr() for name, tensor in model.state_dict().items()}
    replaced = replace_convolutions(model)
    # Neither narrow, grouped, strided nor otherwise padded ones.
    assert replaced == [model[1].conv, model[3], model[6]]
    assert list(map(type, replaced)) == [WinogradConv2d, WinogradConv2d, PointwiseConv2d]
    assert torch.allclose(model(x), expected, rtol=1e-9, atol=1e-9)
    assert list(model.state_dict()) == names
    assert {name: tensor.data_ptr() for name, tensor in model.state_dict().items()} == tensors
    assert not any(module.training for module in model.modules())


@pytest.mark.parametrize('kernel', [1, 3])
def test_the_operator_takes_the_same_forward(kernel):
    torch.manual_seed(0)
    model = ConvModule(8, 6, kernel, padding=kernel // 2, norm_cfg=dict(type='BN'))
    model.double().eval().requires_grad_(False)
    assert len(replace_convolutions(model)) == 1
    x = torch.randn(1, 8, 13, 97, dtype=torch.float64, requires_grad=True)
    y = model(x)
    grad = torch.randn_like(y)
    (expected,) = torch.autograd.grad(y, x, grad)
    operator, tape = build_operator(model), Tape()
    assert operator.fallbacks() == []
    with torch.no_grad():
        assert torch.equal(operator.forward(x.detach(), tape), y)
        found = operator.backward(grad, tape)
    assert torch.allclose(found, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize('kind, kernel', [(WinogradConv2d, 3), (PointwiseConv2d, 1)])
def test_torchs_own_in_training_and_under_autocast(kind, kernel):
    source = nn.Conv2d(8, 8, kernel, padding=kernel // 2)
    conv, calls = kind(source), []
    convolve = conv.convolve
    conv.convolve = lambda x: calls.append(1) or convolve(x)
    x = torch.randn(1, 8, 20, 21)
    assert torch.equal(conv.eval()(x), source(x)) and not calls
    conv.requires_grad_(False)
    assert torch.equal(conv.train()(x), source(x)) and not calls
    with torch.autocast('cpu', torch.bfloat16):
        assert torch.equal(conv.eval()(x), source(x)) and not calls
    # Its own sums where nothing is trained.
    assert torch.allclose(conv(x), source(x), atol=1e-5) and calls == [1]


def test_pixels_are_taken_some_at_a_time():
    source = nn.Conv2d(8, 6, 1).double().requires_grad_(False)
    conv = PointwiseConv2d(source).eval()
    x = torch.randn(2, 8, 50, 61, dtype=torch.float64, requires_grad=True)
    grad = torch.randn(2, 6, 50, 61, dtype=torch.float64)
    results = []
    for module in (source, conv):
        y = module(x)
        results.append((y, *torch.autograd.grad(y, x, grad)))
    for mine, torchs in zip(*results):
        assert torch.allclose(mine, torchs, rtol=1e-9, atol=1e-9)
