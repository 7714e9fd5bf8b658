"""Winograd's backward convolutions against torch's own."""

import pytest
import torch

from ecotta_seg.memory.lean.autograd_ops.frozen_conv import (
    conv_input_gradient,
    conv_weight_gradient,
    summed_input_gradient,
)
from ecotta_seg.memory.lean.autograd_ops.winograd import (
    conv3x3,
    is_faster,
    winograd_conv2d,
    winograd_input_gradient,
    winograd_weight_gradient,
)

SIZES = [(1, 3, 5, 1, 1), (2, 9, 7, 1, 5), (1, 16, 24, 2, 3), (1, 13, 22, 4, 2)]


def _case(frames, height, width, dilation, seed, dtype=torch.float64, channels=(20, 24)):
    torch.manual_seed(seed)
    x = torch.randn(frames, channels[0], height, width, dtype=dtype, requires_grad=True)
    weight = torch.randn(channels[1], channels[0], 3, 3, dtype=dtype, requires_grad=True)
    y = torch.nn.functional.conv2d(x, weight, padding=dilation, dilation=dilation)
    grad = torch.randn_like(y)
    return x, weight, grad, torch.autograd.grad(y, (x, weight), grad)


@pytest.mark.parametrize('case', SIZES)
@pytest.mark.parametrize('workspace', [1, 2**23])
def test_equal_to_autograd(case, workspace):
    x, weight, grad, (of_input, of_weight) = _case(*case)
    dilation = case[3]
    with torch.no_grad():
        found = winograd_input_gradient(grad, weight, dilation, workspace=workspace)
        assert torch.allclose(found, of_input, rtol=1e-9, atol=1e-9)
        base = torch.randn_like(found)
        into = base.clone()
        assert winograd_input_gradient(grad, weight, dilation, into, workspace) is into
        assert torch.allclose(into - base, of_input, rtol=1e-9, atol=1e-9)
        found = winograd_weight_gradient(x, grad, dilation, workspace)
        assert torch.allclose(found, of_weight, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize('case', SIZES)
def test_forward_is_the_convolution(case):
    x, weight, grad, gradients = _case(*case)
    dilation = case[3]
    expected = torch.nn.functional.conv2d(x, weight, padding=dilation, dilation=dilation)
    found = winograd_conv2d(x.detach(), weight.detach(), dilation)
    assert torch.allclose(found, expected, rtol=1e-9, atol=1e-9)
    found = winograd_conv2d(x.detach(), weight.detach(), dilation, workspace=1)
    assert torch.allclose(found, expected, rtol=1e-9, atol=1e-9)
    y = conv3x3(x, weight, dilation)
    for mine, torchs in zip(torch.autograd.grad(y, (x, weight), grad), gradients):
        assert torch.allclose(mine, torchs, rtol=1e-9, atol=1e-9)
    # A frozen kernel's backward keeps no input.
    y = conv3x3(x, weight.detach(), dilation)
    assert [saved is None for saved in y.grad_fn.saved_tensors] == [True, False]
    assert torch.allclose(torch.autograd.grad(y, x, grad)[0], gradients[0], rtol=1e-9, atol=1e-9)


def test_rounding_in_float32():
    exact = _case(1, 16, 32, 1, 0, channels=(384, 384))
    x, weight, grad = (t.detach().float() for t in exact[:3])
    assert is_faster(weight.shape, (1, 1), (1, 1), (1, 1), 1, 'cpu')
    found = conv_input_gradient(grad, weight, x.shape, padding=(1, 1))
    assert (found - exact[3][0]).norm() < 4e-6 * exact[3][0].norm()
    found = conv_weight_gradient(x, grad, (3, 3), padding=(1, 1))
    assert (found - exact[3][1]).norm() < 4e-6 * exact[3][1].norm()


@pytest.mark.parametrize(
    ('kernel', 'stride', 'padding', 'dilation', 'groups'),
    [(3, 1, 1, 1, 1), (3, 2, 1, 1, 1), (1, 1, 0, 1, 1), (1, 2, 0, 1, 1), (3, 1, 2, 2, 6),
     (3, 1, 1, 1, 3), (3, 2, 7, 7, 1), (3, 1, 12, 12, 1)],
)  # fmt: skip
def test_input_gradient_into_a_sum(kernel, stride, padding, dilation, groups):
    torch.manual_seed(0)
    x = torch.randn(2, 6, 9, 11, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(12, 6 // groups, kernel, kernel, dtype=torch.float64)
    y = torch.nn.functional.conv2d(x, weight, None, stride, padding, dilation, groups)
    grad = torch.randn_like(y)
    (expected,) = torch.autograd.grad(y, x, grad)
    options = ((stride,) * 2, (padding,) * 2, (dilation,) * 2, groups)
    assert torch.allclose(conv_input_gradient(grad, weight, x.shape, *options), expected)
    for workspace in (1, 2**23):
        into = torch.ones_like(expected)
        conv_input_gradient(grad, weight, x.shape, *options, into, workspace)
        assert torch.allclose(into - 1, expected)
    if groups == 1:
        summed = summed_input_gradient(grad, weight, x.shape, *options[:3])
        assert torch.allclose(summed, expected.sum(dim=(2, 3), keepdim=True))
