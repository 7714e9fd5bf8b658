"""A matrix times each pixel, against einsum."""

import pytest
import torch

from ecotta_seg.autograd_ops import matrix_product
from ecotta_seg.autograd_ops.matrix_product import has_onednn, product_over_pixels


@pytest.fixture(params=['onednn', 'torch'])
def way(request, monkeypatch):
    if request.param == 'torch':
        monkeypatch.setattr(matrix_product, '_OPERATOR', 'no_such_operator')
    assert has_onednn(torch.zeros(1)) == (request.param == 'onednn')
    return request.param


@pytest.mark.parametrize('frames', [1, 2])
@pytest.mark.parametrize('turned', [False, True])
@pytest.mark.parametrize('dtype', [torch.float32, torch.float64])
def test_equals_einsum(way, frames, turned, dtype):
    torch.manual_seed(0)
    x = torch.randn(frames, 7, 45, 51, dtype=dtype)
    kernel = torch.randn(7, 5, dtype=dtype).t() if turned else torch.randn(5, 7, dtype=dtype)
    expected = torch.einsum('ab,nbhw->nahw', kernel, x)
    tolerance = dict(rtol=1e-5, atol=1e-5) if dtype == torch.float32 else {}
    assert torch.allclose(product_over_pixels(kernel, x), expected, **tolerance)
    into = torch.randn_like(expected)
    before = into.clone()
    # In pieces, whatever the temporary may have.
    assert product_over_pixels(kernel, x, into, workspace=1) is into
    assert torch.allclose(into, before + expected, **tolerance)


def test_the_temporary_is_as_large_as_it_may_be(way):
    from ecotta_seg.memory import StorageMeter

    kernel, x, into = torch.randn(400, 3), torch.randn(1, 3, 64, 64), torch.zeros(1, 400, 64, 64)
    with StorageMeter() as meter:
        product_over_pixels(kernel, x, into, workspace=200 * 64 * 64)
    # By 200 channels; torch's own adds to what is there.
    assert meter.peak_bytes == (200 * 64 * 64 * 4 if way == 'onednn' else 0)


def test_a_trial_without_data_takes_as_much(way):
    from ecotta_seg.memory import StorageMeter

    peaks = []
    for device in ('cpu', 'meta'):
        kernel, x = (torch.ones(s, device=device) for s in ((4, 3), (1, 3, 64, 64)))
        with StorageMeter(device=device) as meter:
            total = product_over_pixels(kernel, x)
            product_over_pixels(kernel, x, total)
        peaks.append(meter.peak_bytes)
    assert peaks[0] == peaks[1]
