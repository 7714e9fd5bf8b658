"""Calibrated BatchNorms against a NumPy reference, and what may change their memory."""

import numpy as np
import pytest
import torch
from torch import nn

from ecotta_seg.layers.calibrated_batch_norm import (
    CalibratedBatchNorm2d,
    calibrating,
    following,
)
from ecotta_seg.layers.replace_norms import replace_batch_norms
from ecotta_seg.methods import build_method
from tests.segmentors import build_segmentor

WEIGHT, TOLERANCE, MOMENTUM = 2.0, 3.0, 0.3


@pytest.fixture
def norm():
    torch.manual_seed(0)
    layer = nn.BatchNorm2d(4).double().eval()
    layer.running_mean.normal_()
    layer.running_var.uniform_(0.5, 2)
    nn.init.uniform_(layer.weight, 0.5, 2)
    nn.init.normal_(layer.bias)
    return CalibratedBatchNorm2d(layer, WEIGHT, TOLERANCE, MOMENTUM)


def _frames(number, scale=1.0):
    generator = torch.Generator().manual_seed(1)
    return [
        scale * torch.randn(1, 4, 5, 6, generator=generator, dtype=torch.float64) + 0.2 * i
        for i in range(number)
    ]


def _drift(norm, mean, var):
    source_mean, source_var = norm.running_mean.numpy(), norm.running_var.numpy() + norm.eps
    ratio = (var + norm.eps) / source_var
    return 0.5 * ((mean - source_mean) ** 2 / source_var + ratio - 1 - np.log(ratio))


def _moments(x):
    return x.numpy().mean((0, 2, 3)), x.numpy().var((0, 2, 3))


def _reference(norm, usual, mean, second, x):
    """The output by statistics whose mean and second moment are given."""
    var = second - mean**2
    excess = np.maximum(_drift(norm, mean, var) - TOLERANCE * usual, 0)
    w = 1 - np.exp(-WEIGHT * excess)
    m = (1 - w) * norm.running_mean.numpy() + w * mean
    v = (1 - w) * norm.running_var.numpy() + w * var
    shape = (1, -1, 1, 1)
    y = (x.numpy() - m.reshape(shape)) / np.sqrt(v.reshape(shape) + norm.eps)
    weight, bias = (p.detach().numpy().reshape(shape) for p in (norm.weight, norm.bias))
    return y * weight + bias


def test_a_stream_is_normalised_as_the_reference_does(norm):
    clear = _frames(5)
    with calibrating([norm]):
        for frame in clear:
            norm(frame)
    usual = np.mean([_drift(norm, *_moments(frame)) for frame in clear], axis=0)
    assert np.allclose(norm.usual_drift.numpy(), usual, rtol=1e-12)
    mean = second = None
    changed = False
    for x in _frames(10, scale=3.0):
        frame_mean, frame_var = _moments(x)
        frame_second = frame_var + frame_mean**2
        if mean is None:
            mean, second = frame_mean, frame_second
        else:
            mean = (1 - MOMENTUM) * mean + MOMENTUM * frame_mean
            second = (1 - MOMENTUM) * second + MOMENTUM * frame_second
        with following([norm]):
            y = norm(x).detach().numpy()
        assert np.allclose(y, _reference(norm, usual, mean, second, x), rtol=1e-9)
        source = nn.functional.batch_norm(
            x, norm.running_mean, norm.running_var, norm.weight, norm.bias, eps=norm.eps
        )
        changed = changed or not np.allclose(y, source.detach().numpy())
    assert changed, 'the weather of the test has to exceed what is usual'


def test_usual_content_is_normalised_by_the_source(norm):
    frames = _frames(3)
    with calibrating([norm]):
        for frame in frames:
            norm(frame)
    source = nn.functional.batch_norm(
        frames[1], norm.running_mean, norm.running_var, norm.weight, norm.bias, eps=norm.eps
    )
    assert torch.equal(norm(frames[1]), source)


def test_calibrating_runs_by_the_statistics_of_the_source(norm):
    frame = _frames(1, scale=5.0)[0]
    source = nn.functional.batch_norm(
        frame, norm.running_mean, norm.running_var, norm.weight, norm.bias, eps=norm.eps
    )
    with calibrating([norm]):
        assert torch.equal(norm(frame), source)


def test_only_the_stream_is_followed_once_a_frame(norm):
    first, second = _frames(2, scale=3.0)
    with following([norm]):
        norm(first)
    before = norm.stream_mean.clone()
    norm(second)  # A prediction that is no frame of the stream.
    assert torch.equal(norm.stream_mean, before)
    with following([norm]):
        once = norm(second)
        again = norm(second)  # Recomputed in a backward pass.
    assert torch.equal(once, again)
    expected = before + MOMENTUM * (second.mean((0, 2, 3)) - before)
    assert torch.allclose(norm.stream_mean, expected, rtol=1e-12)


def test_a_frame_that_fails_is_not_followed(norm):
    with pytest.raises(RuntimeError, match='no memory'), following([norm]):
        norm(_frames(1)[0])
        raise RuntimeError('no memory')
    assert not norm.followed


def test_pieces_of_the_channels_are_the_whole(norm):
    x = _frames(1, scale=3.0)[0]
    mean, var = norm.statistics(x)
    with following([norm]):
        pieces = [norm.statistics(x[:, c], c) for c in (slice(0, 1), slice(1, 4))]
    assert torch.allclose(torch.cat([m for m, _ in pieces]), mean, rtol=1e-12)
    assert torch.allclose(torch.cat([v for _, v in pieces]), var, rtol=1e-12)
    assert torch.allclose(norm.stream_mean, x.mean((0, 2, 3)), rtol=1e-12)


def test_windows_count_as_one_frame(norm):
    x = _frames(1, scale=3.0)[0]
    with following([norm]):
        for number, window in enumerate((x[..., :3], x[..., 3:])):
            norm.window = number
            norm(window)
    assert torch.allclose(norm.stream_mean, x.mean((0, 2, 3)), rtol=1e-12)
    assert torch.allclose(norm.stream_var, x.var((0, 2, 3), correction=0), rtol=1e-12)


def test_the_weight_is_shared_by_all_layers():
    model = nn.Sequential(nn.BatchNorm2d(3), nn.BatchNorm2d(3), nn.BatchNorm2d(3))
    found = replace_batch_norms(model, 'calibrated', 30.0)
    assert [norm.blend_weight for norm in found] == [10.0] * 3


@pytest.mark.parametrize(
    'options', [dict(tolerance=-1.0), dict(momentum=0.0), dict(momentum=1.5), dict(weight=-1.0)]
)
def test_options_out_of_range_are_refused(norm, options):
    with pytest.raises(ValueError, match='expected a'):
        replace_batch_norms(nn.Sequential(nn.BatchNorm2d(3)), 'calibrated', **options)


@pytest.mark.parametrize('name', ['batch_norm_statistics', 'ecotta', 'ecotta_plus'])
def test_a_methods_state_has_the_stream_and_the_calibration(name, frames):
    images, metas = frames
    clear = [(image, metas) for image in images[:2]]

    def built():
        options = dict(type=name)
        if name == 'batch_norm_statistics':
            options['mode'] = 'calibrated'
        else:
            options.update(
                frozen_norm=dict(mode='calibrated'),
                meta_networks=dict(num_parts=2, start='identity'),
                optimizer=dict(type='SGD', lr=0.01),
            )
        if name == 'ecotta_plus':
            options['shift_gate'] = dict()
        return build_method(options, build_segmentor('deeplab')).eval()

    method, fresh = built(), built()
    assert method.uses_clear_frames
    method.calibrate(clear)
    for image in images[:2]:
        method.adapt(3 * image, metas)
    fresh.load_method_state(method.method_state())
    following_frame = 3 * images[2]
    assert torch.equal(
        method.adapt(following_frame.clone(), metas), fresh.adapt(following_frame.clone(), metas)
    )
    # What is looked at in between does not count.
    state = method.method_state()
    with method.adaptation_disabled():
        method.predict_frame(images[0], metas)
    after = method.method_state()
    assert all(torch.equal(state['tensors'][k], after['tensors'][k]) for k in state['tensors'])
    method.reset()
    method.calibrate(clear)
    again = built()
    again.calibrate(clear)
    assert torch.equal(
        method.adapt(images[0].clone(), metas), again.adapt(images[0].clone(), metas)
    )
