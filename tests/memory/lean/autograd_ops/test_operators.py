"""Each operator: torch's own forward, gradcheck in float64, and the bytes that it keeps."""

import pytest
import torch
import torch.nn.functional as F
from torch.autograd import gradcheck

from ecotta_seg.memory import StorageMeter
from ecotta_seg.memory.lean import autograd_ops


def _random(*shape, seed=0, **options):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64, **options)


def _leaf(*shape, seed=0):
    return _random(*shape, seed=seed).requires_grad_()


def _query_key_value(x):
    tokens = x.flatten(0, 1)
    return tokens, tokens[:, :3], tokens[:, 2:]


NORM = [_random(3, seed=s).abs() + 0.5 for s in (1, 2, 3, 4)]
CASES = {
    'conv3x3': lambda x: (
        autograd_ops.frozen_conv2d(x, _random(4, 3, 3, 3), _random(4), (1, 1), (1, 1)),
        F.conv2d(x, _random(4, 3, 3, 3), _random(4), padding=1),
    ),
    'conv_stride_dilation': lambda x: (
        autograd_ops.frozen_conv2d(x, _random(4, 3, 3, 3), None, (2, 2), (2, 2), (2, 2)),
        F.conv2d(x, _random(4, 3, 3, 3), None, 2, 2, 2),
    ),
    'conv_pointwise': lambda x: (
        autograd_ops.frozen_conv2d(x, _random(4, 3, 1, 1)),
        F.conv2d(x, _random(4, 3, 1, 1)),
    ),
    'conv_depthwise': lambda x: (
        autograd_ops.frozen_conv2d(x, _random(3, 1, 3, 3), None, (1, 1), (1, 1), (1, 1), 3),
        F.conv2d(x, _random(3, 1, 3, 3), None, 1, 1, 1, 3),
    ),
    'affine_norm': lambda x: (
        autograd_ops.frozen_affine_norm(x, *NORM),
        F.batch_norm(x, *NORM, False, 0.0, 1e-5),
    ),
    'relu': lambda x: (autograd_ops.one_bit_relu(x), F.relu(x)),
    'gelu': lambda x: (autograd_ops.frozen_gelu(x), F.gelu(x)),
    'gelu_tanh': lambda x: (
        autograd_ops.frozen_gelu(x, 'tanh'),
        F.gelu(x, approximate='tanh'),
    ),
    'layer_norm': lambda x: (
        autograd_ops.frozen_layer_norm(x, (7,), _random(7), _random(7, seed=1)),
        F.layer_norm(x, (7,), _random(7), _random(7, seed=1)),
    ),
    'resize': lambda x: (
        autograd_ops.frozen_resize(x, (11, 5)),
        F.interpolate(x, (11, 5), mode='bilinear', align_corners=False),
    ),
    'resize_corners': lambda x: (
        autograd_ops.frozen_resize(x, (11, 9), True),
        F.interpolate(x, (11, 9), mode='bilinear', align_corners=True),
    ),
    'attention': lambda x: (
        autograd_ops.chunked_attention(*_query_key_value(x)),
        F.scaled_dot_product_attention(*_query_key_value(x), scale=1.0),
    ),
}  # fmt: skip


@pytest.mark.parametrize('name', sorted(CASES))
def test_gradcheck(name):
    rows = 5 if name == 'attention' else 6
    x = _leaf(2, 3, rows, 7)
    assert gradcheck(lambda x: CASES[name](x)[0], (x,))
    ours, torchs = CASES[name](x)
    if name == 'attention':
        assert torch.allclose(ours, torchs, rtol=1e-12)
    else:
        assert torch.equal(ours, torchs)
    grad = torch.randn_like(ours)
    (expected,) = torch.autograd.grad(torchs, x, grad, retain_graph=True)
    (found,) = torch.autograd.grad(ours, x, grad)
    assert torch.allclose(found, expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize('size', [(4, 7), (11, 13)])
def test_entropy_of_resized_logits(size, monkeypatch):
    monkeypatch.setattr(autograd_ops.pixel_entropy, 'BAND_ELEMENTS', 100)
    logits = _leaf(2, 5, 4, 7)
    weights = _random(2, *size, seed=3).abs()

    def ours(z):
        return autograd_ops.resized_weighted_entropy(z, weights, size)

    full = F.interpolate(logits, size, mode='bilinear', align_corners=False)
    p = full.softmax(dim=1)
    expected = -(weights * (p * p.log()).sum(dim=1)).sum()
    assert torch.allclose(ours(logits), expected)
    assert gradcheck(ours, (logits,))
    before = logits.detach().clone()
    (found,) = torch.autograd.grad(ours(logits), logits)
    assert torch.equal(logits, before)
    assert torch.allclose(found, torch.autograd.grad(expected, logits)[0])


KEPT = {
    'conv3x3': 0, 'conv_stride_dilation': 0, 'conv_pointwise': 0, 'conv_depthwise': 0,
    'affine_norm': 3 * 8, 'resize': 0, 'resize_corners': 0, 'relu': -(-2 * 3 * 6 * 7 // 8),
}  # fmt: skip


@pytest.mark.parametrize('name', sorted(KEPT))
def test_what_a_graph_keeps(name):
    x = _leaf(2, 3, 6, 7)
    CASES[name](x)
    with StorageMeter() as meter:
        output = CASES[name](x)[0]
        kept = meter.current_bytes - output.numel() * 8
    # Kernels and statistics that the case itself makes are referred to, not kept anew.
    made = {'conv3x3': 4 * 27 + 4, 'conv_stride_dilation': 4 * 27, 'conv_pointwise': 12}
    made['conv_depthwise'] = 27
    kernels = made.get(name, 0) * 8
    assert kept - KEPT[name] <= kernels
