"""The gate's strength against NumPy."""

import numpy as np
import pytest
import torch
from torch import nn

from ecotta_seg.adaptation.adaptive_batch_norm import AdaptiveBatchNorm2d
from ecotta_seg.adaptation.drift_gate import DriftGate


def _norm(channels, seed):
    source = nn.BatchNorm2d(channels)
    generator = torch.Generator().manual_seed(seed)
    source.running_mean = torch.randn(channels, generator=generator) * 0.1
    source.running_var = torch.rand(channels, generator=generator) + 0.5
    return AdaptiveBatchNorm2d(source, 'drift')


def _divergence(x, norm):
    mean, var = x.mean(axis=(0, 2, 3)), x.var(axis=(0, 2, 3)) + norm.eps
    source_mean, source_var = norm.running_mean.numpy(), norm.running_var.numpy() + norm.eps
    return 0.5 * (
        (mean - source_mean) ** 2 / source_var + var / source_var - 1 - np.log(var / source_var)
    )


@pytest.mark.parametrize('half, exponent', [(0.05, 4.0), (0.5, 1.0)])
def test_the_strength_equals_numpy(half, exponent):
    norms = [_norm(6, 0), _norm(9, 1)]
    gate = DriftGate(norms, half, exponent)
    assert gate.strength() == 0
    means = []
    for norm in norms:
        x = torch.randn(1, norm.num_features, 7, 5, generator=torch.Generator().manual_seed(3))
        # In pieces, as an operator that works by channels does; the last input is what counts.
        for _ in range(2):
            norm.statistics(x[:, :4], slice(0, 4))
            norm.statistics(x[:, 4:], slice(4, norm.num_features))
        means.append(_divergence(x.numpy().astype(np.float64), norm).mean())
    drift = np.mean(means)
    expected = drift**exponent / (drift**exponent + half**exponent)
    assert 0 < expected < 1
    assert gate.strength().item() == pytest.approx(expected, rel=1e-5)


def test_without_norms_all_is_let_through():
    assert DriftGate([]).strength() == 1


def test_a_broken_frame_lets_nothing_through():
    norm = _norm(3, 0)
    gate = DriftGate([norm])
    norm.statistics(torch.full((1, 3, 4, 4), float('nan')))
    assert gate.strength() == 0
