"""Bands of full-resolution predictions: one at a time, and the numbers of plain autograd."""

import pytest
import torch
import torch.nn.functional as F

from ecotta_seg.memory import StorageMeter
from ecotta_seg.memory.lean.autograd_ops import pixel_entropy as module

SHAPE = (2, 8, 64, 64)
BAND = 2 * 8 * 4 * 64


@pytest.fixture(autouse=True)
def _narrow_bands(monkeypatch):
    monkeypatch.setattr(module, 'BAND_ELEMENTS', BAND)


def _logits():
    return torch.randn(SHAPE, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def _classes():
    generator = torch.Generator().manual_seed(1)
    return torch.randint(8, (2, 64, 64), generator=generator)


def _through(bands):
    for _, band in bands:
        del band


@pytest.mark.parametrize(
    'run',
    [
        lambda x: module.entropy_map(x),
        lambda x: _through(module.entropy_bands(x, x[:, 0], x[:, 1])),
        lambda x: module.entropy_gradient_(x, x[:, 0].clone(), x[:, 1].clone()),
        lambda x: module.log_likelihood_map(x, _classes()),
        lambda x: _through(module.log_likelihood_bands(x, _classes(), x[:, 0])),
    ],
)
def test_no_band_stands_beside_the_next(run):
    logits = _logits()
    with StorageMeter() as meter:
        run(logits)
    pixels = 2 * 64 * 64
    # Two maps of a band, and a few numbers a pixel.
    assert meter.peak_bytes <= 8 * (2.1 * BAND + 3 * pixels)
    assert meter.peak_bytes >= 8 * BAND


def test_values_and_gradients():
    logits, classes, weights = _logits().requires_grad_(), _classes(), _logits()[:, 0].detach()
    log = logits.log_softmax(1)
    entropy, likelihood = -(log.exp() * log).sum(1), log.gather(1, classes[:, None])[:, 0]
    plain = logits.detach()
    assert torch.allclose(module.entropy_map(plain), entropy)
    assert torch.allclose(module.log_likelihood_map(plain, classes), likelihood)
    for value, bands in (
        (entropy, module.entropy_bands(plain, entropy.detach(), weights)),
        (likelihood, module.log_likelihood_bands(plain, classes, weights)),
    ):
        expected = torch.autograd.grad((weights * value).sum(), logits, retain_graph=True)[0]
        found = torch.cat([band for _, band in bands], dim=2)
        assert torch.allclose(found, expected, 1e-9, 1e-12)
    loss = F.cross_entropy(logits, classes)
    assert torch.allclose(-module.log_likelihood_map(plain, classes).mean(), loss)
