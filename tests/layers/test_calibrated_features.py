"""Aligned features against a NumPy reference, and in every place that runs them."""

import numpy as np
import pytest
import torch

from ecotta_seg.layers.calibrated_batch_norm import calibrated_norms, calibrating
from ecotta_seg.layers.calibrated_features import CalibratedFeatures, measuring_source
from ecotta_seg.memory.frozen_graph import FeatureAligner, Tape
from ecotta_seg.methods import build_method
from tests.segmentors import build_segmentor

WEIGHT, TOLERANCE = 2.0, 3.0


def _maps(number, shift=0.0, scale=1.0, seed=0):
    generator = torch.Generator().manual_seed(seed)
    spread = torch.tensor([0.5, 1.0, 3.0, 0.1], dtype=torch.float64).view(1, -1, 1, 1)
    return [
        shift + scale * spread * torch.randn(1, 4, 6, 7, generator=generator).double() + 0.1 * i
        for i in range(number)
    ]


def _calibrated(maps):
    layer = CalibratedFeatures(4, weight=WEIGHT, tolerance=TOLERANCE, momentum=1.0).double().eval()
    for context in (measuring_source, calibrating):
        with context([layer]):
            for x in maps:
                assert torch.equal(layer(x), x)
    return layer


def _reference(maps, x, eps=1e-5):
    """The formula of the docstring, with the statistics of all clear frames together."""
    joined = np.concatenate([m.numpy() for m in maps])
    M, V = joined.mean((0, 2, 3)), joined.var((0, 2, 3))

    def drift(y):
        m, v = y.mean((0, 2, 3)), y.var((0, 2, 3))
        ratio = (v + eps) / (V + eps)
        return 0.5 * ((m - M) ** 2 / (V + eps) + ratio - 1 - np.log(ratio))

    usual = np.mean([drift(m.numpy()) for m in maps], axis=0)
    y = x.numpy()
    w = 1 - np.exp(-WEIGHT * np.maximum(drift(y) - TOLERANCE * usual, 0))
    m = (1 - w) * M + w * y.mean((0, 2, 3))
    v = (1 - w) * V + w * y.var((0, 2, 3))
    m, v, M, V = (t.reshape(1, -1, 1, 1) for t in (m, v, M, V))
    return (y - m) * np.sqrt((V + eps) / (v + eps)) + M


def test_against_numpy():
    maps = _maps(5)
    layer = _calibrated(maps)
    (weather,) = _maps(1, shift=1.5, scale=0.3, seed=7)
    aligned = layer(weather)
    assert np.allclose(aligned.numpy(), _reference(maps, weather), rtol=1e-10, atol=1e-12)
    # The alignment removes most of the shift.
    M = layer.running_mean
    apart = (weather.mean((0, 2, 3)) - M).abs()
    assert ((aligned.mean((0, 2, 3)) - M).abs() < 0.6 * apart).all()


def test_clear_frames_and_an_uncalibrated_layer_are_exact():
    maps = _maps(5)
    layer = _calibrated(maps)
    assert torch.equal(layer(maps[2]), maps[2])
    fresh = CalibratedFeatures(4, weight=WEIGHT).double().eval()
    (weather,) = _maps(1, shift=5.0)
    assert torch.equal(fresh(weather), weather)
    assert not fresh.state_dict() and not list(fresh.parameters())


def test_the_operator_equals_autograd():
    layer = _calibrated(_maps(5))
    (x,) = _maps(1, shift=1.0, scale=0.5, seed=3)
    x.requires_grad_()
    y = layer(x)
    grad = torch.randn_like(y)
    (expected,) = torch.autograd.grad(y, x, grad)
    operator, tape = FeatureAligner(layer), Tape()
    assert torch.equal(operator.forward(x.detach(), tape), y.detach())
    into = torch.ones_like(x)
    assert torch.allclose(operator.backward(grad.clone(), tape, into), expected + 1)
    assert not tape


def _method(kind, engine):
    torch.manual_seed(0)
    return build_method(
        dict(
            type='ecotta',
            meta_networks=dict(num_parts=4, start='identity', norm='auto'),
            frozen_norm=dict(mode='calibrated', features=True),
            optimizer=dict(type='SGD', lr=0.01),
            entropy_threshold=0.9,
            memory_engine=engine,
        ),
        build_segmentor(kind),
    ).double()


def _frame(value, seed=0):
    generator = torch.Generator().manual_seed(seed)
    image = value + torch.randn(1, 3, 64, 96, generator=generator, dtype=torch.float64)
    return image, [dict(img_shape=(64, 96), ori_shape=(64, 96), pad_shape=(64, 96))]


@pytest.mark.parametrize('kind', ['deeplab', 'segformer'])
def test_a_method_aligns_weather_by_engine_and_autograd_alike(kind):
    results = []
    for engine in (True, False):
        method = _method(kind, engine).eval()
        assert (method.engine is not None) == engine
        aligners = method.encoder.aligners
        assert len(aligners) == 4
        # Norms and aligners share the weight.
        assert sum(n.blend_weight for n in calibrated_norms(method.segmentor)) == pytest.approx(40)
        weather = _frame(2.0, seed=9)
        before = method.predict(*weather)
        method.calibrate([_frame(0.0, seed) for seed in range(3)])
        assert all(layer.measured for layer in aligners)
        assert any((layer.running_mean != 0).any() for layer in aligners)
        assert not torch.allclose(method.predict(*weather), before)
        logits = [method.adapt(*weather) for _ in range(3)]
        results.append((logits, [p.clone() for p in method.adaptable_parameters().values()]))
    (logits, parameters), (plain_logits, plain_parameters) = results
    for ours, plain in zip(logits + parameters, plain_logits + plain_parameters):
        assert torch.allclose(ours, plain, 1e-8, 1e-11)


def test_features_need_calibrated_norms():
    options = dict(
        type='ecotta',
        meta_networks=dict(num_parts=4, start='identity'),
        frozen_norm=dict(mode='drift', features=True),
        optimizer=dict(type='SGD', lr=0.01),
    )
    with pytest.raises(ValueError, match="expected frozen_norm.mode='calibrated'"):
        build_method(options, build_segmentor('deeplab'))
