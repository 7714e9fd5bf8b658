"""Packed flags against booleans, whatever the number of elements."""

import pytest
import torch

from ecotta_seg.memory.lean.autograd_ops import bit_mask as module


@pytest.fixture(params=[1, 7, 8, 9, 64, 1000, 1023])
def values(request):
    generator = torch.Generator().manual_seed(request.param)
    x = torch.randn(request.param, generator=generator)
    x[::5] = 0.0
    return x


@pytest.mark.parametrize('chunk', [16, 2**20])
def test_pack_and_mask(values, chunk, monkeypatch):
    monkeypatch.setattr(module, 'CHUNK', chunk)
    packed = module.pack_positive(values)
    assert packed.dtype == torch.uint8 and packed.numel() == -(-values.numel() // 8)
    assert torch.equal(module.unpack(packed, values.shape), values > 0)
    for dtype in (torch.float32, torch.float64, torch.bfloat16):
        grad = torch.randn(values.numel()).to(dtype)
        expected = torch.where(values > 0, grad, torch.zeros((), dtype=dtype))
        assert module.mask_(grad, packed) is grad
        assert torch.equal(grad, expected)


@pytest.mark.parametrize('chunk', [16, 2**20])
def test_signs_in_two_bits(values, chunk, monkeypatch):
    monkeypatch.setattr(module, 'CHUNK', chunk)
    x = torch.randn(values.numel())
    expected = x + 0.25 * values.sign()
    module.add_sign_(x, module.pack_positive(values), module.pack_positive(-values), 0.25)
    assert torch.allclose(x, expected)


def test_not_a_number_is_not_let_through():
    x = torch.tensor([float('nan'), float('inf'), -float('inf'), 1.0])
    assert module.unpack(module.pack_positive(x), x.shape).tolist() == [False, True, False, True]
