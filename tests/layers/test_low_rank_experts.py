"""Mixtures of experts against loops over experts, and their losses against NumPy."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from ecotta_seg.layers.low_rank_experts import (
    DomainClassifier,
    LowRankExperts,
    connect,
    synergy_loss,
)
from ecotta_seg.memory.lean.autograd_ops.frame_region import FrameRegion

DOMAINS = ('clear', 'fog', 'night')


def _layer(channels=8, **options):
    options = dict(experts=5, top=2, reduction=3, domains=DOMAINS, **options)
    layer = LowRankExperts(channels, channels, **options).double()
    connect([layer], seed=0)
    return layer


def _filled(**options):
    layer = _layer(**options)
    torch.manual_seed(0)
    for parameter in layer.parameters():
        torch.nn.init.normal_(parameter)
    return layer


@torch.no_grad()
def _plain(layer, frame, domain, region=None):
    """One frame (C, H, W), expert by expert."""
    seen = frame if region is None else frame[:, region[0], region[1]]
    logits = layer.route[domain] @ seen.mean(dim=(1, 2))
    best = sorted(range(len(logits)), key=lambda e: -float(logits[e]))[: layer.top]
    total = sum(math.exp(float(logits[e])) for e in best)
    out = frame.clone()
    for e in best:
        narrow = F.conv2d(frame[None], layer.down[e][:, :, None, None], layer.down_bias[e])
        wide = F.conv2d(F.gelu(narrow), layer.up[e][:, :, None, None], layer.up_bias[e])
        out += math.exp(float(logits[e])) / total * wide[0]
    return out


def test_a_mixture_is_the_sum_over_the_best_experts_of_each_frame():
    layer = _filled().eval()
    assert layer.rank == 2
    frames, domains = torch.randn(3, 8, 6, 9).double(), [2, 0, 2]
    layer.classifier = None
    layer.choice.domains = torch.tensor(domains)
    expected = torch.stack([_plain(layer, f, d) for f, d in zip(frames, domains)])
    assert torch.allclose(layer(frames, frames), expected)
    assert not torch.allclose(expected, frames)
    # The router does not read the padding.
    layer.region = FrameRegion(6, 9, (1, 4), (0, 5))
    inside = (slice(1, 4), slice(0, 5))
    expected = torch.stack([_plain(layer, f, d, inside) for f, d in zip(frames, domains)])
    assert torch.allclose(layer(frames, frames), expected)


def test_at_the_start_the_features_are_unchanged():
    layers = [LowRankExperts(4, 64), LowRankExperts(64, 96)]
    connect(layers, seed=3)
    assert [layer.rank for layer in layers] == [2, 3]
    features = torch.randn(2, 64, 5, 7)
    assert torch.equal(layers[0].eval()(features, features), features)
    assert layers[0].choice is layers[1].choice and layers[1].classifier is None
    again = LowRankExperts(4, 64)
    connect([again], seed=3)
    assert torch.equal(again.route, layers[0].route) and again.down.any()
    assert torch.equal(again.noise, layers[0].noise) and again.noise.any()


def test_the_router_learns_and_adds_noise_in_training_alone():
    layer = _filled()
    frame = torch.randn(1, 8, 6, 9).double()
    layer.eval()
    assert torch.equal(layer(frame, frame), layer(frame, frame))
    layer(frame, frame).square().sum().backward()
    assert layer.route.grad[0].any() and not layer.route.grad[1:].any()
    assert layer.noise.grad is None and layer.assigned is None
    layer.train()
    layer.top = 5
    layer.choice.given = torch.tensor([1])
    torch.manual_seed(1)
    gates, chosen = layer._route(frame.flatten(2))
    mean = frame.mean(dim=(2, 3))[0]
    torch.manual_seed(1)
    deviation = F.softplus(layer.noise[1] @ mean) + 0.01
    noisy = layer.route[1] @ mean + torch.randn(1, 5).double()[0] * deviation
    assert torch.allclose(gates[0], noisy.softmax(0)[chosen[0]])
    assert torch.allclose(layer.assigned[0], (layer.route[1] @ mean).softmax(0))


def test_the_domain_is_the_nearest_by_the_statistics():
    generator = np.random.default_rng(0)
    classifier = DomainClassifier(3, 4).double()
    frames = generator.normal(size=(12, 3, 40))
    # Domain 2 has no frame; domain 3 has another mean, domain 1 another deviation.
    labels = np.array([0, 1, 3] * 4)
    frames += 0.6 * (labels == 3)[:, None, None]
    frames *= 1 + 0.8 * (labels == 1)[:, None, None]
    assert classifier(torch.from_numpy(frames)).tolist() == [0] * 12
    for start in range(0, 12, 3):
        part = slice(start, start + 3)
        classifier.measure(torch.from_numpy(frames[part]), torch.from_numpy(labels[part]))
    values = np.concatenate([frames.mean(2), frames.std(2)], axis=1)
    means = {d: values[labels == d].mean(0) for d in (0, 1, 3)}
    within = sum(((values[labels == d] - m) ** 2).sum(0) for d, m in means.items())
    fresh = generator.normal(size=(20, 3, 40)) * generator.uniform(0.8, 2, size=(20, 1, 1))
    fresh += generator.uniform(-0.2, 0.8, size=(20, 1, 1))
    found = classifier(torch.from_numpy(fresh)).tolist()
    statistics = np.concatenate([fresh.mean(2), fresh.std(2)], axis=1)
    expected = [min(means, key=lambda d: ((s - means[d]) ** 2 / within).sum()) for s in statistics]
    assert found == expected and set(expected) == {0, 1, 3}


def test_the_synergy_loss_is_the_negative_mutual_information():
    assigned = np.random.default_rng(0).dirichlet(np.ones(6), size=5)
    joint = assigned / len(assigned)
    expected = sum(
        joint[d, e] * math.log(joint[d, e] / (joint[d].sum() * joint[:, e].sum()))
        for d in range(5)
        for e in range(6)
    )
    assert math.isclose(float(synergy_loss(torch.from_numpy(assigned))), -expected)
    same = torch.from_numpy(assigned[:1]).expand(5, -1)
    assert abs(float(synergy_loss(same))) < 1e-12
    one_each = torch.eye(4, 6).double().requires_grad_()
    loss = synergy_loss(one_each)
    assert math.isclose(float(loss.detach()), -math.log(4))
    loss.backward()
    assert one_each.grad.isfinite().all()


@pytest.mark.parametrize(
    'change', [dict(top=7), dict(top=0), dict(reduction=0), dict(domains=['hail'])]
)
def test_wrong_options_are_refused(change):
    with pytest.raises(ValueError, match='expected top from 1 to experts'):
        LowRankExperts(8, 8, **change)
