"""The mean drift of norms against NumPy."""

import numpy as np
import pytest
import torch
from torch import nn

from ecotta_seg.layers.drift_meter import DriftMeter, drift_norms
from ecotta_seg.layers.replace_norms import replace_batch_norms


def _model(mode='drift'):
    model = nn.Sequential(nn.BatchNorm2d(6), nn.BatchNorm2d(9))
    generator = torch.Generator().manual_seed(0)
    for norm in model:
        norm.running_mean = torch.randn(norm.num_features, generator=generator) * 0.1
        norm.running_var = torch.rand(norm.num_features, generator=generator) + 0.5
    replace_batch_norms(model, mode)
    return model


def _divergence(x, norm):
    mean, var = x.mean(axis=(0, 2, 3)), x.var(axis=(0, 2, 3)) + norm.eps
    source_mean, source_var = norm.running_mean.numpy(), norm.running_var.numpy() + norm.eps
    return 0.5 * (
        (mean - source_mean) ** 2 / source_var + var / source_var - 1 - np.log(var / source_var)
    )


def test_drift_equals_numpy():
    model = _model()
    meter = DriftMeter(drift_norms(model))
    assert meter.mean() is None
    means = []
    with meter.listening():
        for norm in model:
            x = torch.randn(1, norm.num_features, 7, 5, generator=torch.Generator().manual_seed(3))
            norm.statistics(torch.zeros_like(x))
            # In pieces, as an operator that works by channels does; the last input is what counts.
            for _ in range(2):
                norm.statistics(x[:, :4], slice(0, 4))
                norm.statistics(x[:, 4:], slice(4, norm.num_features))
            means.append(_divergence(x.numpy().astype(np.float64), norm).mean())
        inside = meter.mean()
    # What is not a frame of the stream is not listened to.
    model[0].statistics(torch.zeros(1, 6, 4, 4))
    drift = np.mean(means)
    assert drift > 0.01
    assert meter.mean() == inside == pytest.approx(drift, rel=1e-5)


def test_calibrated_norms_count_in_multiples_of_their_usual_drift():
    model = _model('calibrated')
    model[0].usual_drift.fill_(0.5)
    model[1].usual_drift.copy_(torch.linspace(0, 0.02, 9))
    meter, x = DriftMeter(drift_norms(model)), torch.randn(1, 9, 7, 5)
    with meter.listening():
        model[0].statistics(x[:, :6])
        model[1].statistics(x)
    first = _divergence(x[:, :6].double().numpy(), model[0]).mean() / 0.5
    second = _divergence(x.double().numpy(), model[1]).mean() / 0.01
    assert meter.mean() == pytest.approx((first + second) / 2, rel=1e-4)


def test_norms_of_other_modes_have_no_drift():
    assert DriftMeter(drift_norms(_model('frame'))).mean() is None
