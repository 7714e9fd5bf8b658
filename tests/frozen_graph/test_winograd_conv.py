"""Frozen convolutions by Winograd against torch's own."""

import pytest
import torch
from mmcv.cnn import ConvModule
from torch import nn

from ecotta_seg.autograd_ops import winograd
from ecotta_seg.frozen_graph import Tape, WinogradConv2d, build_operator, replace_convolutions


@pytest.fixture(autouse=True)
def narrow(monkeypatch):
    """Pays from four channels on."""
    monkeypatch.setattr(winograd, '_FEW', 4)
    monkeypatch.setattr(winograd, '_MANY', 4)


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
    )
    return model.double().eval().requires_grad_(False)


@pytest.mark.parametrize('dilation', [1, 2])
def test_the_wide_ones_are_replaced_and_compute_the_same(dilation):
    model = _model(dilation)
    x = torch.randn(2, 3, 13, 18, dtype=torch.float64)
    expected, names = model(x), list(model.state_dict())
    tensors = {name: tensor.data_ptr() for name, tensor in model.state_dict().items()}
    replaced = replace_convolutions(model)
    # Neither narrow, grouped, strided, otherwise padded nor pointwise ones.
    assert replaced == [model[1].conv, model[3]]
    assert torch.allclose(model(x), expected, rtol=1e-9, atol=1e-9)
    assert list(model.state_dict()) == names
    assert {name: tensor.data_ptr() for name, tensor in model.state_dict().items()} == tensors
    assert not any(module.training for module in model.modules())


def test_the_operator_takes_the_same_forward():
    model = _model()[1]
    replace_convolutions(model)
    x = torch.randn(1, 8, 13, 18, dtype=torch.float64, requires_grad=True)
    y = model(x)
    grad = torch.randn_like(y)
    (expected,) = torch.autograd.grad(y, x, grad)
    operator, tape = build_operator(model), Tape()
    assert operator.fallbacks() == []
    with torch.no_grad():
        assert torch.equal(operator.forward(x.detach(), tape), y)
        found = operator.backward(grad, tape)
    assert torch.allclose(found, expected, rtol=1e-9, atol=1e-9)


def test_torchs_own_in_training_and_under_autocast():
    source = nn.Conv2d(8, 8, 3, padding=1)
    conv = WinogradConv2d(source)
    x = torch.randn(1, 8, 9, 9)
    assert not torch.equal(conv.eval()(x), source(x))
    assert torch.equal(conv.train()(x), source(x))
    with torch.autocast('cpu', torch.bfloat16):
        assert torch.equal(conv.eval()(x), source(x))
