"""The meter against graphs whose memory is counted by hand."""

import gc
import threading

import pytest
import torch
import torch.nn.functional as F
from torch.utils.checkpoint import checkpoint

from ecotta_seg.memory import StorageMeter

KIB = 1024


def floats(kib):
    """A float32 shape of that many KiB."""
    return (kib, 256)


def test_chain_keeps_two_at_a_time():
    x = torch.randn(64, 64)  # 16 KiB, before entry
    weight = torch.randn(64, 64)
    with StorageMeter(breakdown=True) as meter, torch.no_grad():
        for _ in range(5):
            x = x @ weight
    # Each product stands beside its predecessor; the very first input is not counted.
    assert meter.peak_bytes == 2 * 16 * KIB
    assert meter.current_bytes == 16 * KIB
    assert [entry.operator for entry in meter.peak_breakdown()] == ['aten.mm.default'] * 2
    assert sum(entry.bytes for entry in meter.peak_breakdown()) == meter.peak_bytes


def test_views_and_aliases_count_once():
    with StorageMeter() as meter:
        x = torch.zeros(floats(4))
        views = [x.view(-1), x[0], x.t(), x.detach(), x.expand(2, 4, 256), x.unbind(0)]
    assert meter.peak_bytes == 4 * KIB
    del x
    assert meter.current_bytes == 4 * KIB  # the views hold it
    views.clear()
    assert meter.current_bytes == 0


def test_view_of_an_older_storage_is_free():
    x = torch.zeros(floats(4))
    with StorageMeter() as meter:
        y = x.view(-1).detach()[5:]
        y += 1
        del x
    assert meter.peak_bytes == 0 and meter.current_bytes == 0


def test_in_place_is_free_and_out_of_place_is_not():
    x = torch.zeros(floats(8))
    with StorageMeter() as meter, torch.no_grad():
        x.relu_().add_(1)
        torch.add(x, 1, out=x)
        assert meter.peak_bytes == 0
        y = x.relu()
        assert meter.peak_bytes == 8 * KIB
        y.mul_(2)
    assert meter.peak_bytes == 8 * KIB


def test_freed_early_does_not_add_up():
    with StorageMeter() as meter:
        for _ in range(10):
            x = torch.zeros(floats(2))
            del x
        y = torch.zeros(floats(3))
    assert meter.peak_bytes == 3 * KIB
    assert meter.current_bytes == y.untyped_storage().nbytes()


def test_resize_and_out_are_followed():
    with StorageMeter() as meter:
        x = torch.empty(0)
        x.resize_(256)
        assert meter.current_bytes == 1 * KIB
        torch.ones(512, out=x.resize_(0))
        assert meter.current_bytes == 2 * KIB
        x.untyped_storage().resize_(0)
        assert meter.current_bytes == 0
    assert meter.peak_bytes == 2 * KIB


def test_new_tensor_from_python_numbers_counts():
    with StorageMeter() as meter:
        x = torch.tensor([1.0, 2.0, 3.0, 4.0])
    assert meter.current_bytes == x.untyped_storage().nbytes() == 16


def test_inference_of_conv_and_relu():
    image = torch.randn(1, 3, 32, 32)
    first = torch.nn.Conv2d(3, 8, 3, padding=1)
    second = torch.nn.Conv2d(8, 16, 3, padding=1, stride=2)
    with StorageMeter() as meter, torch.no_grad():
        out = second(F.relu(first(image)))
    a = 8 * 32 * 32 * 4
    b = 16 * 16 * 16 * 4
    # conv's output is dropped when relu has returned: both stand in relu, then a and b.
    assert meter.peak_bytes == max(a + a, a + b)
    assert meter.current_bytes == b == out.untyped_storage().nbytes()


def test_backward_saved_tensors_and_gradients():
    image = torch.randn(1, 3, 32, 32)
    conv = torch.nn.Conv2d(3, 8, 3, padding=1)
    with StorageMeter() as meter:
        y = F.relu(conv(image))
        # relu saves its output; the convolution's own output is freed.
        assert meter.current_bytes == 8 * 32 * 32 * 4
        loss = y.sum()
        del y
        assert meter.current_bytes == 8 * 32 * 32 * 4 + 4
        loss.backward()
    a, weight, bias = 8 * 32 * 32 * 4, 8 * 3 * 9 * 4, 8 * 4
    assert meter.current_bytes == 4 + weight + bias
    # Standing in convolution_backward: relu's output is released by then (its node has run), so
    # the gradient of the convolution's output, the gradients made, the loss and its gradient
    # (ones_like(loss)) stand; earlier, in threshold_backward: relu's output and the gradient.
    assert meter.peak_bytes == 4 + 4 + a + a


def test_matmul_chain_backward():
    n = 32 * KIB  # one 64 x 128 float32 matrix
    x = torch.randn(64, 128)
    weights = [torch.randn(128, 128, requires_grad=True) for _ in range(3)]
    w = 64 * KIB
    with StorageMeter() as meter:
        h = x
        for weight in weights:
            h = h @ weight
        # h1 and h2 are saved as inputs of the next product, h3 is the output.
        assert meter.current_bytes == 3 * n
        grad = torch.ones_like(h)
        h.backward(grad)
        del h
        assert meter.current_bytes == n + 3 * w
    # Last node (w1): h3, the given gradient, the gradient of h1, and all three weight gradients.
    # Nodes give up what they saved as they run: h1 is gone with the second's.
    expected_last = 3 * n + 3 * w
    assert meter.peak_bytes == expected_last


def test_custom_function_saved_tensors_are_followed():
    class Halve(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x > 0)  # 1 byte an element
            return x / 2

        @staticmethod
        def backward(ctx, grad):
            return grad * ctx.saved_tensors[0] / 2

    x = torch.randn(floats(4), requires_grad=True)
    with StorageMeter() as meter:
        y = Halve.apply(x)
        assert meter.current_bytes == 4 * KIB + 1 * KIB
        y.sum().backward()
        del y
        assert meter.current_bytes == 4 * KIB  # the gradient of x


def test_checkpoint_keeps_less_and_recomputes():
    x = torch.randn(floats(64), requires_grad=True)

    def body(t):
        return t.sigmoid().sigmoid().sigmoid().sigmoid()

    with StorageMeter() as plain:
        body(x).sum()
        assert plain.current_bytes == 0
        y = body(x)
        assert plain.current_bytes == 4 * 64 * KIB
        y.sum().backward()
    x.grad = None
    with StorageMeter() as saved:
        y = checkpoint(body, x, use_reentrant=False)
        assert saved.current_bytes < 65 * KIB
        loss = y.sum()
        del y
        loss.backward()
    assert saved.peak_bytes >= 4 * 64 * KIB  # the recomputed ones are seen


def test_frees_after_exit_and_meter_can_go_first():
    with StorageMeter() as meter:
        x = torch.zeros(floats(2))
    del x
    assert meter.current_bytes == 0
    with StorageMeter() as meter:
        y = torch.zeros(floats(2))
    del meter
    gc.collect()
    del y  # the callback finds no meter and says nothing


def test_other_threads_are_not_seen():
    with StorageMeter() as meter:
        thread = threading.Thread(target=lambda: torch.zeros(floats(8)).sum())
        thread.start()
        thread.join()
    assert meter.peak_bytes == 0


def test_reset_peak():
    with StorageMeter() as meter:
        x = torch.zeros(floats(8))
        del x
        y = torch.zeros(floats(2))
        meter.reset_peak()
        assert meter.peak_bytes == 2 * KIB
        z = torch.zeros(floats(1))
    assert meter.peak_bytes == y.untyped_storage().nbytes() + z.untyped_storage().nbytes()


def test_repeats_exactly_and_nests():
    model = torch.nn.Sequential(
        torch.nn.Conv2d(3, 8, 3), torch.nn.BatchNorm2d(8), torch.nn.ReLU(), torch.nn.Conv2d(8, 4, 3)
    )
    image = torch.randn(2, 3, 17, 19)

    def step():
        model.zero_grad(set_to_none=True)
        model(image).square().mean().backward()

    step()
    model.zero_grad(set_to_none=True)
    with StorageMeter() as outer, StorageMeter() as inner:
        step()
    model.zero_grad(set_to_none=True)
    with StorageMeter() as again:
        step()
    assert outer.peak_bytes == inner.peak_bytes == again.peak_bytes > 0


def test_breakdown_must_be_asked_for():
    with StorageMeter() as meter:
        torch.zeros(3)
    with pytest.raises(ValueError, match='breakdown=True'):
        meter.peak_breakdown()
