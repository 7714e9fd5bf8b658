"""SAR against two plain forwards and SGD with momentum by hand."""

from copy import deepcopy
from math import log

import pytest
import torch
from torch import nn

from ecotta_seg.methods import build_method
from ecotta_seg.methods.sar import TOP_LAYERS
from ecotta_seg.methods.step_record import StepRecord
from tests.segmentors import NUM_CLASSES, in_frame_mode

E0, RHO, LR = 0.6 * log(NUM_CLASSES), 0.1, 1e-3
OPTIONS = dict(
    type='sar',
    optimizer=dict(type='SGD', lr=LR, momentum=0.9),
    entropy_threshold=0.6,
    radius=RHO,
    recovery_threshold=0.0,
)


def _entropy(logits):
    p = logits.softmax(1)
    return -(p * p.log()).sum(1)


def _reference(segmentor, images, metas):
    model = in_frame_mode(segmentor)
    parameters = {}
    for name, module in model.named_modules():
        top = any(part in name for part in ('layer4', 'layers.3', 'decode_head'))
        if isinstance(module, (nn.BatchNorm2d, nn.LayerNorm)) and not top:
            parameters.update({f'{name}.{n}': p for n, p in module.named_parameters()})
    values = [p.requires_grad_() for p in parameters.values()]
    momentum = [torch.zeros_like(p) for p in values]
    predictions, mean = [], None
    for image in images:
        logits = model.encode_decode(image, metas)
        predictions.append(logits.detach())
        entropy = _entropy(logits)
        reliable = entropy.detach() < E0
        first = torch.autograd.grad(entropy[reliable].mean(), values)
        norm = sum(g.square().sum() for g in first).sqrt()
        before = [p.detach().clone() for p in values]
        with torch.no_grad():
            for p, g in zip(values, first):
                p += RHO * g / norm
        entropy = _entropy(model.encode_decode(image, metas))
        still = reliable & (entropy.detach() < E0)
        assert still.sum() < reliable.sum(), 'the second filter has to matter'
        second = torch.autograd.grad(entropy[still].mean(), values)
        with torch.no_grad():
            for i, (p, start, g) in enumerate(zip(values, before, second)):
                momentum[i] = 0.9 * momentum[i] + g
                p.copy_(start - LR * momentum[i])
        value = float(entropy[still].mean())
        mean = value if mean is None else 0.9 * mean + 0.1 * value
    return predictions, parameters, mean


def test_sar_follows_the_reference(segmentor, frames):
    images, metas = [image.double() for image in frames[0]], frames[1]
    segmentor.double()
    start = {n: p.detach().clone() for n, p in segmentor.named_parameters()}
    expected, parameters, mean = _reference(segmentor, images, metas)
    method = build_method(OPTIONS, segmentor).eval()
    assert method.adaptable_parameters().keys() == parameters.keys()
    for image, logits in zip(images, expected):
        # The first forward's: before climbing, before the step.
        assert torch.allclose(method.adapt(image, metas), logits, atol=1e-8)
        assert method.last_step.updated and 0 < method.last_step.confident_fraction < 1
    assert method.mean_entropy == pytest.approx(mean, rel=1e-8)
    moved = 0.0
    for name, parameter in method.adaptable_parameters().items():
        change = (parameters[name] - start[name]).abs().max()
        assert (parameter - parameters[name]).abs().max() <= 1e-12 + 1e-6 * change, name
        moved += float(change)
    assert moved > 0


def _steps_ever_surer(method, images, metas):
    """Adapts to three frames, the last two with logits three times as wide; stops after each."""
    weight = method.segmentor.decode_head.conv_seg.weight
    plain = weight.detach().clone()
    for image, scale in zip(images, (1.0, 3.0, 3.0)):
        weight.data.copy_(scale * plain)
        method.last_step = StepRecord()
        method.adapt(image, metas)
        yield method


def test_collapse_goes_back_to_the_source(segmentor, frames):
    images, metas = frames
    method = build_method({**OPTIONS, 'recovery_threshold': 1.0}, segmentor).eval()
    first = method.predict(images[0], metas)
    method.adapt(images[0], metas)
    assert method.last_step.updated and method.mean_entropy is None
    assert 'the moving average of the entropy' in method.last_step.own_reset
    assert torch.equal(method.predict(images[0], metas), first)
    assert not method.optimizer.state


def test_the_moving_average_decides_and_not_the_last_entropy(segmentor, frames):
    images, metas = frames
    images = [images[0], images[1], images[1]]
    # Once without a threshold, for the numbers.
    raw, means = [], []
    for method in _steps_ever_surer(build_method(OPTIONS, deepcopy(segmentor)), images, metas):
        raw.append(method._second / method._shares)
        means.append(method.mean_entropy)
    # At the second frame it is above what the frame alone has and below the average.
    threshold = (max(raw[1], means[2]) + means[1]) / 2
    assert max(raw[1], means[2]) < threshold < min(raw[0], means[1])
    method = build_method(OPTIONS, segmentor)
    method.recovery_threshold = threshold
    steps = _steps_ever_surer(method, images, metas)
    assert [step.last_step.own_reset is not None for step in steps] == [False, False, True]


def test_top_layers_are_named_as_the_models_name_them(segmentor):
    names = [name for name, _ in segmentor.named_modules()]
    assert sum(name in names for name in TOP_LAYERS) == 2
    with pytest.raises(ValueError, match='no norm is left'):
        build_method({**OPTIONS, 'skip': ['backbone', 'decode_head']}, segmentor)
