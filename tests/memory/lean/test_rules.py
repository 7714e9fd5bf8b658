"""Each rule against torch's own function: the same result, gradients to rounding, less kept."""

import pytest
import torch
import torch.nn.functional as F

from ecotta_seg.memory.lean import LeanAutograd


def _random(*shape, seed=0, dtype=torch.float64):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


X = (2, 6, 9, 11)
POSITIVE = _random(6, seed=3).abs() + 0.1
# Name: the function of x, and the bytes that may be kept for each element of x (float64).
CALLS = {
    'conv': (lambda x: F.conv2d(x, _random(4, 6, 3, 3, seed=1), _random(4, seed=2)), 0),
    'conv_strided': (lambda x: F.conv2d(x, _random(4, 6, 3, 3, seed=1), None, 2, 1), 0),
    'conv_pointwise': (lambda x: F.conv2d(x, _random(8, 6, 1, 1, seed=1)), 0),
    'conv_dilated': (lambda x: F.conv2d(x, _random(4, 6, 3, 3, seed=1), None, 1, 2, 2), 0),
    'conv_grouped': (lambda x: F.conv2d(x, _random(4, 3, 3, 3, seed=1), None, 1, 1, 1, 2), 0),
    'conv_depthwise': (lambda x: F.conv2d(x, _random(6, 1, 3, 3, seed=1), None, 1, 1, 1, 6), 0),
    'conv_multiplied': (lambda x: F.conv2d(x, _random(12, 1, 3, 3, seed=1), None, 2, 1, 1, 6), 0),
    'conv_transposed': (
        lambda x: F.conv_transpose2d(x, _random(6, 4, 3, 3, seed=1), _random(4, seed=2), 2, 1, 1),
        0,
    ),
    'conv_transposed_grouped': (
        lambda x: F.conv_transpose2d(x, _random(6, 2, 2, 2, seed=1), None, 2, 0, 0, 2),
        0,
    ),
    'batch_norm': (
        lambda x: F.batch_norm(
            x, _random(6, seed=1), POSITIVE, _random(6, seed=2), _random(6, seed=4)
        ),
        0,
    ),
    'batch_norm_without_affine': (lambda x: F.batch_norm(x, _random(6, seed=1), POSITIVE), 0),
    'batch_norm_of_codes': (
        lambda x: F.batch_norm(x.flatten(2), _random(6, seed=1), POSITIVE, POSITIVE, None),
        0,
    ),
    'relu': (F.relu, 1 / 8),
    'relu_of_tensor': (lambda x: x.relu(), 1 / 8),
    'relu_in_place': (lambda x: F.relu(2 * x, inplace=True), 1 / 8),
    'relu_': (lambda x: (2 * x).relu_(), 1 / 8),
    'relu_transposed': (lambda x: F.relu(x.transpose(1, 2)), 1 / 8),
    'relu6': (lambda x: F.relu6(6 * x), 1 / 8),
    'relu6_in_place': (lambda x: F.relu6(6 * x, inplace=True), 1 / 8),
    'leaky_relu': (lambda x: F.leaky_relu(x, 0.2), 1 / 8),
    'prelu': (lambda x: F.prelu(x, _random(6, seed=1)), 1 / 8),
    'prelu_of_one_slope': (lambda x: F.prelu(x, _random(1, seed=1)), 1 / 8),
    'max_pool': (lambda x: F.max_pool2d(x, 3, 2, 1), 1 / 4),
    'max_pool_ceil': (lambda x: F.max_pool2d(x, 2, ceil_mode=True), 1 / 2),
    'max_pool_dilated': (lambda x: F.max_pool2d(x, (3, 2), 1, (1, 0), (2, 3)), 1),
    'avg_pool': (lambda x: F.avg_pool2d(x, 3, 2, 1), 0),
    'avg_pool_padding_left_out': (lambda x: F.avg_pool2d(x, 3, 2, 1, True, False), 0),
    'avg_pool_divided': (lambda x: F.avg_pool2d(x, 2, divisor_override=3), 0),
    'adaptive_avg_pool': (lambda x: F.adaptive_avg_pool2d(x, (3, 4)), 0),
    'adaptive_avg_pool_of_all': (lambda x: F.adaptive_avg_pool2d(x, 1), 0),
    'l1_loss': (lambda x: F.l1_loss(x, _random(*X, seed=1)), 1 / 4),
}


class _Kept:
    """Bytes that a graph keeps, without kernels, scales and what is as small as these."""

    def __init__(self):
        self.bytes = 0
        self._hooks = torch.autograd.graph.saved_tensors_hooks(self._note, lambda tensor: tensor)

    def _note(self, tensor):
        storage = tensor.untyped_storage()
        # Of an element that is expanded to a map only the one is there.
        self.bytes += min(storage.nbytes(), tensor.numel() * tensor.element_size())
        return tensor

    def __enter__(self):
        self._hooks.__enter__()
        return self

    def __exit__(self, *error):
        self._hooks.__exit__(*error)


def _run(call, x, lean):
    x = x.clone().requires_grad_()
    if not lean:
        y = call(x)
    else:
        with LeanAutograd():
            y = call(x)
    grad = _random(*y.shape, seed=9, dtype=y.dtype)
    first = torch.autograd.grad(y, x, grad, retain_graph=True)[0]
    second = torch.autograd.grad(y, x, grad)[0]
    assert torch.equal(first, second)
    return y.detach(), first


@pytest.mark.parametrize('name', CALLS)
def test_same_result_and_gradient(name):
    call, _ = CALLS[name]
    x = _random(*X)
    (y, gradient), (expected, expected_gradient) = (_run(call, x, lean) for lean in (True, False))
    assert torch.equal(y, expected)
    assert torch.allclose(gradient, expected_gradient, 1e-11, 1e-12)


@pytest.mark.parametrize('name', CALLS)
def test_what_is_kept(name):
    call, share = CALLS[name]
    kept = {}
    for lean in (True, False):
        x = _random(*X).requires_grad_()
        with _Kept() as kept[lean]:
            if lean:
                with LeanAutograd():
                    y = call(x)
            else:
                y = call(x)
    # Kernels, norms' scales and a byte that is not full.
    small = 8 * 6 * 12 * 9 + 64
    assert kept[True].bytes <= share * x.numel() + small
    assert y is not None


def test_the_bound_of_what_is_kept_can_fail():
    x = _random(*X).requires_grad_()
    with _Kept() as kept:
        F.relu(x)
    assert kept.bytes >= 8 * x.numel()


@pytest.mark.parametrize('frozen', [True, False])
def test_trainable_weights_are_left_to_torch(frozen):
    leaves = [_random(*X), _random(4, 6, 3, 3, seed=1), _random(4, seed=2), _random(4, seed=3)]
    results = []
    for lean in (True, False):
        x, kernel, scale, shift = (leaf.clone().requires_grad_() for leaf in leaves)
        kernel.requires_grad_(not frozen)

        def call(x=x, kernel=kernel, scale=scale, shift=shift):
            y = F.conv2d(x, kernel)
            return F.relu(F.batch_norm(y, torch.zeros(4).double(), POSITIVE[:4], scale, shift))

        if lean:
            with LeanAutograd():
                y = call()
        else:
            y = call()
        wanted = [x, scale, shift] + ([] if frozen else [kernel])
        results.append((y.detach(), *torch.autograd.grad(y.square().sum(), wanted)))
    for ours, expected in zip(*results):
        assert torch.allclose(ours, expected, 1e-11, 1e-12)


@pytest.mark.parametrize('name', CALLS)
def test_nothing_is_done_without_a_gradient(name):
    call, _ = CALLS[name]
    with LeanAutograd():
        y = call(_random(*X))
        with torch.no_grad():
            without = call(_random(*X).requires_grad_())
    assert not y.requires_grad and not without.requires_grad
    assert torch.equal(y, call(_random(*X))) and torch.equal(y, without)


def test_a_leaf_is_not_overwritten():
    x = _random(*X).requires_grad_()
    with LeanAutograd(), pytest.raises(RuntimeError, match='leaf'):
        F.relu(x, inplace=True)


def test_under_autocast():
    results = []
    for lean in (True, False):
        x = _random(*X, dtype=torch.float32).requires_grad_()
        with torch.autocast('cpu', torch.bfloat16):
            call = _small_network
            if lean:
                with LeanAutograd():
                    y = call(x)
            else:
                y = call(x)
        results.append((y.detach(), torch.autograd.grad(y.float().square().sum(), x)[0]))
    (y, gradient), (expected, expected_gradient) = results
    assert y.dtype == expected.dtype == torch.bfloat16 and torch.equal(y, expected)
    assert gradient.dtype == torch.float32
    error = (gradient - expected_gradient).norm() / expected_gradient.norm()
    assert error < 0.02


def _small_network(x):
    kernel = _random(4, 6, 3, 3, seed=1, dtype=torch.float32)
    y = F.conv2d(x, kernel, _random(4, seed=2, dtype=torch.float32))
    mean = torch.zeros(4)
    y = F.relu(F.batch_norm(y, mean, mean + 1, mean + 2, mean))
    return F.conv_transpose2d(y, _random(4, 3, 2, 2, seed=4, dtype=torch.float32), None, 2)
