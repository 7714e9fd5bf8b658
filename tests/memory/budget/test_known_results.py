"""Operators on tensors without data, remembered, against the same run anew."""

import pytest
import torch
import torch.nn.functional as F

from ecotta_seg.memory import StorageMeter
from ecotta_seg.memory.budget.known_results import KnownResults


def _meta(*shape, **options):
    return torch.empty(shape, device='meta', **options)


def _describe(tensor):
    return None if tensor is None else (tensor.shape, tensor.stride(), tensor.dtype, tensor.device)


def _convolved(x):
    return F.conv2d(x, _meta(5, x.shape[1], 3, 3, dtype=x.dtype), padding=1)


CALLS = {
    'a map': lambda: [_convolved(_meta(1, 4, 8, 9))],
    'another layout': lambda: [_meta(1, 4, 8, 9).to(memory_format=torch.channels_last) * 2.0],
    'numbers of other kinds': lambda: [
        _meta(3, dtype=torch.int64) * 2,
        _meta(3, dtype=torch.int64) * 2.0,
        _meta(3, dtype=torch.int64) == True,  # noqa: E712
    ],
    'several': lambda: list(_meta(4, 6).max(dim=1)),
    'none of some': lambda: list(
        torch.ops.aten.convolution_backward(
            _meta(1, 5, 8, 9), _meta(1, 4, 8, 9), _meta(5, 4, 3, 3), None,
            [1, 1], [1, 1], [1, 1], False, [0, 0], 1, [True, False, False],
        )
    ),
    'a part of a map': lambda: [_meta(2, 4, 8)[:, 1:3].relu()],
    'nothing': lambda: [_meta(0, 4).exp()],
    'a sum over a view': lambda: [_meta(4, 6).expand(3, 4, 6).sum(0)],
}  # fmt: skip


@pytest.mark.parametrize('name', sorted(CALLS))
def test_the_same_results_as_run_anew(name):
    expected, known = [_describe(t) for t in CALLS[name]()], KnownResults()
    for _ in range(3):
        with known:
            assert [_describe(t) for t in CALLS[name]()] == expected


def _peak(known):
    with known, StorageMeter(device='meta') as meter:
        x = _meta(1, 4, 16, 16)
        y = _convolved(x).relu_()
        y.add_(1.0).mul_(y.sigmoid())
        y = torch.ops.aten._unsafe_view(y, [5, 256])
        z = y.log_softmax(0)
        del x
        z = z.view(5, 16, 16)[1:] @ z.view(5, 16, 16)[0]
        assert z.shape == (4, 16, 16)
    return meter.peak_bytes, meter.current_bytes


def test_a_meter_sees_the_same():
    class Nothing(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            return func(*args, **(kwargs or {}))

    known = KnownResults()
    expected = _peak(Nothing())
    assert [_peak(known) for _ in range(3)] == [expected] * 3


def test_what_is_changed_in_place_is_given_back_itself():
    known, x = KnownResults(), _meta(4, 4)
    for _ in range(2):
        with known:
            assert x.add_(1.0) is x
            assert x.data_ptr() == 0
            y = torch.empty_like(x)
            assert torch.add(x, x, out=y) is y


def test_memory_that_is_handed_on_is_still_handed_on():
    for _ in range(2):
        with KnownResults():
            x = _meta(4, 6)
            for _ in range(2):
                view = torch.ops.aten._unsafe_view(x, [24])
                assert view.untyped_storage()._cdata == x.untyped_storage()._cdata


def test_results_do_not_share_memory():
    x, known = _meta(4, 4), KnownResults()
    with known:
        results = [x.exp() for _ in range(3)]
    assert len({r.untyped_storage()._cdata for r in results}) == 3


def test_gradients_go_through():
    known = KnownResults()
    for _ in range(3):
        weight = _meta(5, 4, requires_grad=True)
        with known:
            loss = (_meta(3, 4) @ weight.T).relu().sum()
            (gradient,) = torch.autograd.grad(loss, [weight])
        assert gradient.shape == weight.shape and gradient.is_meta


def test_tensors_with_data_are_computed():
    known, x = KnownResults(), torch.tensor([1.0, 2.0])
    with known:
        assert torch.equal(x + 1, torch.tensor([2.0, 3.0]))
        assert torch.equal(x + 2, torch.tensor([3.0, 4.0]))
        assert float(x.sum()) == 3 and not bool((x == 5).any())


def test_counts_have_the_length_that_is_asked_for():
    classes = _meta(12, dtype=torch.int64)
    with KnownResults():
        counts = torch.bincount(classes, minlength=7)
    assert counts.is_meta and counts.shape == (7,) and counts.dtype == torch.int64


def test_a_number_that_is_not_there_is_one():
    with KnownResults():
        assert (_meta(3) == 0).sum() == 0
        assert float(_meta(3).sum()) == 1
