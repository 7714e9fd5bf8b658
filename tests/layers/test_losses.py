"""Losses against NumPy."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from ecotta_seg.layers.losses import (
    confident_entropy,
    pixel_entropy,
    self_distilled_regularisation,
    smooth_distance_,
    smooth_slope_,
)


def _entropy(logits):
    p = np.exp(logits - logits.max(axis=1, keepdims=True))
    p /= p.sum(axis=1, keepdims=True)
    return -(p * np.log(p)).sum(axis=1)


def test_entropy_and_its_confident_mean():
    logits = np.random.default_rng(0).normal(0, 2, (2, 5, 6, 7))
    entropy = _entropy(logits)
    assert np.allclose(pixel_entropy(torch.tensor(logits)).numpy(), entropy)
    loss, fraction = confident_entropy(torch.tensor(logits), 0.9)
    assert loss.item() == pytest.approx(entropy[entropy < 0.9].mean())
    assert fraction.item() == pytest.approx((entropy < 0.9).mean())


def test_the_gradient_stays_on_confident_pixels():
    generator = torch.Generator().manual_seed(1)
    logits = 2 * torch.randn(1, 4, 5, 5, dtype=torch.double, generator=generator)
    logits.requires_grad_()
    confident_entropy(logits, 0.8).loss.backward()
    confident = pixel_entropy(logits.detach()) < 0.8
    touched = logits.grad.abs().sum(dim=1) > 0
    assert confident.any() and not confident.all()
    assert torch.equal(touched, confident)


def test_no_confident_pixel_is_zero_and_depends_on_nothing():
    loss, fraction = confident_entropy(torch.zeros(1, 4, 3, 3, requires_grad=True), 1.0)
    assert loss == 0 and fraction == 0 and not loss.requires_grad


def test_certain_pixels_give_finite_gradients():
    logits = torch.tensor([[[[1e4]], [[-1e4]]]], requires_grad=True)
    loss = confident_entropy(logits, 0.5).loss
    loss.backward()
    assert loss == 0 and logits.grad.isfinite().all()


def test_regularisation_reaches_the_adapted_side_alone():
    adapted = torch.randn(1, 3, 4, 5, requires_grad=True)
    frozen = torch.randn(1, 3, 4, 5, requires_grad=True)
    loss = self_distilled_regularisation(adapted, frozen)
    loss.backward()
    expected = np.abs(adapted.detach().numpy() - frozen.detach().numpy()).mean()
    assert loss.item() == pytest.approx(expected, rel=1e-6)
    assert frozen.grad is None and adapted.grad is not None


@pytest.mark.parametrize('frozen_scale', [1.0, 0.0])
def test_relative_regularisation(frozen_scale):
    adapted = torch.randn(1, 3, 4, 5, requires_grad=True)
    frozen = frozen_scale * torch.randn(1, 3, 4, 5)
    loss = self_distilled_regularisation(adapted, frozen, relative=True)
    magnitude = max(np.abs(frozen.numpy()).mean(), 1e-6)
    expected = np.abs(adapted.detach().numpy() - frozen.numpy()).mean() / magnitude
    assert loss.item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize('relative', [False, True])
def test_smooth_regularisation(relative):
    generator = torch.Generator().manual_seed(3)
    frozen = torch.randn(1, 3, 4, 5, generator=generator, dtype=torch.float64)
    adapted = frozen + 0.3 * torch.randn(frozen.shape, generator=generator, dtype=torch.float64)
    adapted[0, 0] = frozen[0, 0]
    adapted.requires_grad_()
    loss = self_distilled_regularisation(adapted, frozen, relative, smoothing=0.25)
    loss.backward()
    size = np.abs(frozen.numpy()).mean()
    knee, unit = 0.25 * size, size if relative else 1.0
    d = adapted.detach().numpy() - frozen.numpy()
    near = np.abs(d) < knee
    assert 0.2 < near.mean() < 0.9
    expected = np.where(near, d**2 / (2 * knee), np.abs(d) - knee / 2)
    assert loss.item() == pytest.approx(expected.mean() / unit, rel=1e-12)
    slope = np.clip(d / knee, -1, 1) / (d.size * unit)
    assert np.allclose(adapted.grad.numpy(), slope, rtol=1e-12, atol=0)


def test_rounding_changes_the_gradient_of_the_smooth_regulariser_by_rounding():
    generator = torch.Generator().manual_seed(3)
    frozen = torch.randn(1, 3, 4, 5, generator=generator)
    sign = torch.randn(frozen.shape, generator=generator).sign()

    def gradient(rounding, smoothing):
        adapted = (frozen * (1 + sign * rounding)).requires_grad_()
        self_distilled_regularisation(adapted, frozen, True, smoothing).backward()
        return adapted.grad

    largest = gradient(1.0, 0.0).abs().max()
    apart = [(gradient(2e-7, s) - gradient(-2e-7, s)).abs().max() / largest for s in (0.0, 0.1)]
    # The sign of the L1 flips.
    assert apart[0] == 2 and 0 < apart[1] < 1e-4


def test_distance_and_slope_of_the_smooth_regulariser():
    d = torch.linspace(-2, 2, 41, dtype=torch.float64, requires_grad=True)
    expected = F.smooth_l1_loss(d, torch.zeros_like(d), reduction='none', beta=0.7)
    (slope,) = torch.autograd.grad(expected.sum(), d)
    assert torch.allclose(smooth_distance_(d.detach().clone(), 0.7), expected)
    assert torch.allclose(smooth_slope_(d.detach().clone(), 0.7), slope)
    assert torch.equal(smooth_distance_(d.detach().clone(), 0.0), d.detach().abs())


def test_regularisation_of_narrow_features_is_taken_in_float32():
    generator = torch.Generator().manual_seed(4)
    wide = torch.randn(2, 1, 16, 64, 64, generator=generator)
    adapted, frozen = wide.bfloat16()
    adapted.requires_grad_()
    loss = self_distilled_regularisation(adapted, frozen)
    loss.backward()
    expected = (adapted.detach().double() - frozen.double()).abs().mean()
    assert loss.dtype == torch.float32 and float(loss) == pytest.approx(float(expected), rel=1e-6)
    assert adapted.grad.dtype == torch.bfloat16 and adapted.grad.any()
