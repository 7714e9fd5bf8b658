"""Entropy of resized logits against plain autograd: values, gradients, memory."""

import pytest
import torch
import torch.nn.functional as F

from ecotta_seg.memory import StorageMeter
from ecotta_seg.memory.lean import LeanAutograd, source_of_resize
from ecotta_seg.memory.lean.autograd_ops import pixel_entropy as bands
from ecotta_seg.memory.lean.autograd_ops.pixel_entropy import pixel_entropy


def _small(*shape, dtype=torch.float64):
    return torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=dtype)


def _plainly(small, size, align_corners):
    logits = F.interpolate(small, size, mode='bilinear', align_corners=align_corners)
    probabilities = logits.softmax(1)
    return -(probabilities * probabilities.log()).sum(1)


@pytest.mark.parametrize('elements', [2**20, 200])
@pytest.mark.parametrize('align_corners', [True, False])
@pytest.mark.parametrize('size', [(37, 45), (9, 45), (37, 11), (9, 11), (5, 7), (1, 64)])
def test_gradient_of_the_small_logits(size, align_corners, elements, monkeypatch):
    monkeypatch.setattr(bands, 'BAND_ELEMENTS', elements)
    small = _small(2, 5, 9, 11).requires_grad_()
    weights = torch.rand(2, *size, generator=torch.Generator().manual_seed(1)).double()
    with LeanAutograd():
        logits = F.interpolate(small, size, mode='bilinear', align_corners=align_corners)
        entropy = pixel_entropy(logits)
        ours = torch.autograd.grad((weights * entropy).sum(), small)[0]
    assert source_of_resize(logits).small is small
    expected = _plainly(small, size, align_corners)
    assert torch.allclose(entropy, expected, 1e-12, 1e-12)
    gradient = torch.autograd.grad((weights * expected).sum(), small)[0]
    assert torch.allclose(ours, gradient, 1e-10, 1e-13)


@pytest.mark.parametrize(
    'resize',
    [
        lambda x: F.interpolate(x, (18, 22), mode='nearest'),
        lambda x: F.interpolate(x, scale_factor=2.0, mode='bilinear', align_corners=False),
        lambda x: F.interpolate(x, (18, 22), mode='bilinear') * 2,
        lambda x: F.interpolate(x, (18, 22), mode='bilinear')[:, :, 2:],
    ],
)
def test_logits_of_another_origin(resize):
    small = _small(1, 5, 9, 11).requires_grad_()
    with LeanAutograd():
        logits = resize(small)
        ours = torch.autograd.grad(pixel_entropy(logits).square().sum(), small)[0]
    assert source_of_resize(logits) is None
    gradient = torch.autograd.grad(pixel_entropy(resize(small)).square().sum(), small)[0]
    assert torch.allclose(ours, gradient, 1e-10, 1e-13)


@pytest.mark.parametrize('resized', [True, False])
@pytest.mark.parametrize('elements', [2**20, 200])
def test_cross_entropy(resized, elements, monkeypatch):
    monkeypatch.setattr(bands, 'BAND_ELEMENTS', elements)
    small = _small(2, 5, 9, 11).requires_grad_()
    classes = torch.randint(5, (2, 18, 22), generator=torch.Generator().manual_seed(1))
    results = []
    for lean in (True, False):
        with LeanAutograd() if lean else torch.enable_grad():
            logits = F.interpolate(small, (18, 22), mode='bilinear', align_corners=False)
            loss = 3 * F.cross_entropy(logits if resized else 2 * logits, classes)
            results.append((loss.detach(), torch.autograd.grad(loss, small)[0]))
    assert torch.allclose(results[0][0], results[1][0], 1e-12)
    assert torch.allclose(results[0][1], results[1][1], 1e-10, 1e-14)


@pytest.mark.parametrize(
    'options',
    [dict(reduction='sum'), dict(weight=torch.rand(5).double()), dict(label_smoothing=0.1), {}],
)
def test_another_cross_entropy_is_torchs_own(options):
    logits = _small(1, 5, 9, 11).requires_grad_()
    classes = torch.randint(5, (1, 9, 11), generator=torch.Generator().manual_seed(1))
    classes[:, :2] = -100
    with LeanAutograd():
        ours = F.cross_entropy(logits, classes, **options)
    assert torch.equal(ours, F.cross_entropy(logits, classes, **options))


def test_both_ways_at_once():
    """A loss on the logits themselves goes back by torch's own resizing and adds up."""
    small = _small(1, 5, 9, 11).requires_grad_()
    gradients = []
    for lean in (True, False):
        with LeanAutograd() if lean else torch.enable_grad():
            logits = F.interpolate(small, (18, 22), mode='bilinear', align_corners=False)
            loss = pixel_entropy(logits).sum() + logits.square().sum()
            gradients.append(torch.autograd.grad(loss, small)[0])
    assert torch.allclose(*gradients, 1e-10, 1e-12)


def test_no_second_map_of_full_size():
    small = _small(1, 19, 64, 96, dtype=torch.float32).requires_grad_()
    peaks = {}
    for lean in (True, False):
        with StorageMeter() as meter, LeanAutograd() if lean else torch.enable_grad():
            logits = F.interpolate(small, (512, 768), mode='bilinear', align_corners=False)
            pixel_entropy(logits).mean().backward()
        peaks[lean] = meter.peak_bytes / (logits.numel() * 4)
        del logits
    # The logits, a band and its temporaries, the entropy and its gradient.
    assert peaks[True] < 1.8 and peaks[False] > 4
