"""A matrix times each pixel, against einsum."""

import pytest
import torch

from ecotta_seg.memory.lean.autograd_ops import matrix_product
from ecotta_seg.memory.lean.autograd_ops.matrix_product import has_onednn, product_over_pixels


@pytest.fixture(params=['onednn', 'torch'])
def way(request, monkeypatch):
    if request.param == 'torch':
        monkeypatch.setattr(matrix_product, '_OPERATOR', 'no_such_operator')
    assert has_onednn(torch.zeros(1)) == (request.param == 'onednn')
    return request.param


@pytest.mark.parametrize('frames', [1, 2])
@pytest.mark.parametrize('channels', [5, 300])
@pytest.mark.parametrize('turned', [False, True])
@pytest.mark.parametrize('dtype', [torch.float32, torch.float64])
def test_equals_einsum(way, frames, channels, turned, dtype):
    torch.manual_seed(0)
    x = torch.randn(frames, 7, 45, 51, dtype=dtype)
    shape = (7, channels) if turned else (channels, 7)
    kernel = torch.randn(shape, dtype=dtype)
    kernel = kernel.t() if turned else kernel
    expected = torch.einsum('ab,nbhw->nahw', kernel, x)
    tolerance = dict(rtol=1e-5, atol=1e-5) if dtype == torch.float32 else {}
    assert torch.allclose(product_over_pixels(kernel, x), expected, **tolerance)
    into = torch.randn_like(expected)
    before = into.clone()
    # In pieces: of 128 channels by oneDNN, of 1024 pixels by torch.
    assert product_over_pixels(kernel, x, into, workspace=1) is into
    assert torch.allclose(into, before + expected, **tolerance)


def test_maps_with_gaps(way):
    wide, kernel = torch.randn(1, 3, 20, 32), torch.randn(4, 3)
    for x in (wide[..., ::2], wide[:, :, 4:9], wide.mean((2, 3), True).expand(1, 3, 8, 8)):
        expected = torch.einsum('ab,nbhw->nahw', kernel, x)
        assert torch.allclose(product_over_pixels(kernel, x), expected, atol=1e-5)
    assert product_over_pixels(kernel, wide[:, :, :0], torch.zeros(1, 4, 0, 32)).numel() == 0


def test_the_temporary_is_as_large_as_it_may_be(way):
    from ecotta_seg.memory import StorageMeter

    kernel, x, into = torch.randn(400, 3), torch.randn(1, 3, 64, 64), torch.zeros(1, 400, 64, 64)
    with StorageMeter() as meter:
        product_over_pixels(kernel, x, into, workspace=200 * 64 * 64)
    # By 200 channels; torch's own adds to what is there.
    assert meter.peak_bytes == (200 * 64 * 64 * 4 if way == 'onednn' else 0)


def test_a_dry_run_takes_as_much(way):
    from ecotta_seg.memory import StorageMeter

    peaks = []
    for device in ('cpu', 'meta'):
        kernel, x = (torch.ones(s, device=device) for s in ((4, 3), (1, 3, 64, 64)))
        with StorageMeter(device=device) as meter:
            total = product_over_pixels(kernel, x)
            product_over_pixels(kernel, x, total)
        peaks.append(meter.peak_bytes)
    assert peaks[0] == peaks[1]
