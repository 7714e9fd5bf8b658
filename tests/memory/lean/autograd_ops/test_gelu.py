"""Gradients of GELU, ours and torch's, however gradients lie in memory."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from ecotta_seg.memory.lean.autograd_ops import frozen_gelu
from ecotta_seg.memory.lean.autograd_ops.gelu import mend_gelus


def _mended(x):
    module = nn.GELU()
    mend_gelus(module)
    mend_gelus(module)
    assert len(module._forward_hooks) <= 1
    return module(x)


@pytest.mark.parametrize('gelu', [frozen_gelu, _mended])
@pytest.mark.parametrize('transposed', ['input', 'gradient', 'neither', 'both'])
def test_gradients_may_be_transposed(gelu, transposed):
    x, grad = (
        torch.randn(1, 16, 24).transpose(1, 2)
        if transposed in (name, 'both')
        else torch.randn(1, 24, 16)
        for name in ('input', 'gradient')
    )
    exact = x.double().requires_grad_()
    F.gelu(exact).backward(grad.double())
    # What is freed here is what a result that nobody writes would show.
    del [torch.full(x.shape, torch.nan) for _ in range(8)][:]
    leaf = x.requires_grad_()
    (found,) = torch.autograd.grad(gelu(leaf), leaf, grad)
    assert torch.allclose(found.double(), exact.grad, atol=1e-5)
