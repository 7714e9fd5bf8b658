"""Operations of small networks against formulas by hand."""

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.checkpoint import checkpoint

from ecotta_seg.memory.operation_counter import OperationCounter


def operations(run):
    with OperationCounter() as counter:
        run()
    return counter.operations


def test_a_small_network_against_formulas_by_hand():
    plain, grouped = nn.Conv2d(3, 8, 3, stride=2, padding=1), nn.Conv2d(8, 8, 3, groups=4)
    up, linear = nn.ConvTranspose2d(8, 6, 2, stride=2), nn.Linear(6, 5)
    x = torch.randn(2, 3, 16, 24, requires_grad=True)

    def run():
        y = up(grouped(plain(x)).relu())
        linear(y.permute(0, 2, 3, 1)).sum().backward()

    forward = [
        2 * (2 * 8 * 12) * 8 * 3 * 9,
        2 * (2 * 6 * 10) * 8 * (8 // 4) * 9,
        # A transposed convolution multiplies each site of its input.
        2 * (2 * 6 * 10) * 8 * 6 * 4,
        2 * (2 * 12 * 20) * 6 * 5,
    ]
    # Each backward has the gradients of the input and of the weight.
    assert operations(run) == 3 * sum(forward)
    with torch.no_grad():
        assert operations(lambda: plain(x)) == forward[0]


def test_products_that_add_to_a_total():
    a, b = torch.randn(4, 3), torch.randn(3, 5)
    assert operations(lambda: torch.zeros(4, 5).addmm_(a, b)) == 2 * 4 * 3 * 5
    many = torch.randn(7, 4, 3), torch.randn(7, 3, 5)
    assert operations(lambda: torch.zeros(7, 4, 5).baddbmm_(*many)) == 2 * 7 * 4 * 3 * 5
    assert operations(lambda: F.softmax(a, dim=1)) == 0


def test_a_module_that_runs_again_for_a_gradient():
    conv, x = nn.Conv2d(3, 8, 3, padding=1), torch.randn(1, 3, 6, 7, requires_grad=True)
    once = 2 * (6 * 7) * 8 * 3 * 9

    def run():
        y = checkpoint(lambda x: conv(x).relu(), x, use_reentrant=False)
        torch.autograd.grad(y.sum(), x)

    # Forward, forward again, and the gradient of the input.
    assert operations(run) == 3 * once


def test_gradients_of_a_depthwise_convolution():
    conv, x = nn.Conv2d(8, 8, 3, padding=1, groups=8), torch.randn(2, 8, 6, 7, requires_grad=True)
    assert operations(lambda: conv(x).sum().backward()) == 3 * 2 * (2 * 6 * 7) * 8 * 9


def test_without_data_as_with_data():
    conv = nn.Conv2d(3, 8, 3, device='meta')
    x = torch.empty(1, 3, 6, 7, device='meta')
    assert operations(lambda: conv(x)) == 2 * (4 * 5) * 8 * 3 * 9
