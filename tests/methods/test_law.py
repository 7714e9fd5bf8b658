"""LAW against the published loop: squared gradients summed up, scaled, and a rate a layer."""

import numpy as np
import pytest
import torch
from torch import nn

from ecotta_seg.methods import build_method
from ecotta_seg.methods.layer_weights import learning_weights
from ecotta_seg.methods.step_record import StepRecord
from ecotta_seg.resume.state_file import plain
from tests.methods.test_every_method import same as same_state
from tests.segmentors import build_segmentor, in_frame_mode

LR, TAU = 1e-2, 0.5
TENT = dict(type='tent', optimizer=dict(type='SGD', lr=LR, momentum=0.9))


def test_the_scaler_equals_numpy():
    values = np.random.default_rng(0).gamma(1.0, 1e-6, 9)
    expected = ((values - values.min()) / (values.max() - values.min())) ** TAU
    assert np.allclose(learning_weights(torch.tensor(values), TAU), expected, atol=1e-6)
    for same in (torch.zeros(4), torch.full((4,), 0.3)):
        assert torch.equal(learning_weights(same, TAU), torch.zeros(4))


def _reference(segmentor, images, metas):
    model = in_frame_mode(segmentor)
    parameters = {}
    for name, module in model.named_modules():
        if isinstance(module, (nn.BatchNorm2d, nn.LayerNorm)):
            parameters.update({f'{name}.{n}': p for n, p in module.named_parameters()})
    values = [p.requires_grad_() for p in parameters.values()]
    information = [torch.zeros_like(p) for p in values]
    momentum = [torch.zeros_like(p) for p in values]
    predictions = []
    for image in images:
        logits = model.encode_decode(image, metas)
        predictions.append(logits.detach())
        log_p = logits.log_softmax(1)
        nll = -log_p.gather(1, logits.argmax(1, keepdim=True)).mean()
        for i, g in enumerate(torch.autograd.grad(nll, values, retain_graph=True)):
            information[i] += g**2
        root = [float(f.mean()) ** 0.5 for f in information]
        low, high = min(root), max(root)
        gradients = torch.autograd.grad(-(log_p.exp() * log_p).sum(1).mean(), values)
        with torch.no_grad():
            for i, (p, g) in enumerate(zip(values, gradients)):
                momentum[i] = 0.9 * momentum[i] + g
                p -= LR * ((root[i] - low) / (high - low)) ** TAU * momentum[i]
    return predictions, parameters


def test_law_follows_the_reference(segmentor, frames):
    images, metas = [image.double() for image in frames[0]], frames[1]
    segmentor.double()
    start = {n: p.detach().clone() for n, p in segmentor.named_parameters()}
    expected, parameters = _reference(segmentor, images, metas)
    method = build_method(dict(TENT, layer_weights=dict(exponent=TAU)), segmentor).eval()
    for image, logits in zip(images, expected):
        assert torch.allclose(method.adapt(image, metas), logits, atol=1e-6)
    weights = method.layer_weights.weights
    assert float(weights.min()) == 0 and 0.99 < float(weights.max()) <= 1
    for name, parameter in method.adaptable_parameters().items():
        moved = (parameters[name] - start[name]).abs().max()
        assert (parameter - parameters[name]).abs().max() <= 1e-9 + 1e-4 * moved, name


@pytest.mark.parametrize('inner', [
    dict(type='eata', entropy_threshold=0.8, optimizer=dict(type='SGD', lr=LR)),
    dict(type='sar', entropy_threshold=0.8, optimizer=dict(type='SGD', lr=LR)),
    dict(type='cotta', views=2, optimizer=dict(type='Adam', lr=1e-3)),
    dict(type='ecotta', meta_networks=dict(num_parts=3), optimizer=dict(type='SGD', lr=LR)),
    dict(type='ecotta_plus', meta_networks=dict(num_parts=2), optimizer=dict(type='Adam', lr=LR)),
    dict(type='ladder', meta_networks=dict(num_parts=2), optimizer=dict(type='SGD', lr=LR)),
    dict(TENT, reset_every=1000),
], ids=lambda inner: inner['type'])  # fmt: skip
@pytest.mark.parametrize('mode', ['whole', 'slide'])
def test_any_gradient_method_is_weighted(inner, mode, frames):
    images, metas = frames
    test_cfg = dict(mode='slide', crop_size=(48, 48), stride=(32, 32)) if mode == 'slide' else {}
    method = build_method(dict(inner, layer_weights=dict()), build_segmentor('deeplab', **test_cfg))
    plain = build_method(inner, build_segmentor('deeplab', **test_cfg))
    assert torch.equal(method.adapt(images[0], metas), plain.adapt(images[0], metas))
    assert method.last_step.updated
    rates = [group['lr'] for group in method.optimizer.param_groups]
    base = plain.optimizer.param_groups[0]['lr']
    assert min(rates) == 0 and max(rates) == pytest.approx(base, rel=1e-6)
    if inner['type'] == 'ecotta':  # The others restore or recover, which hides the step.
        for (name, parameter), weight in zip(
            method.adaptable_parameters().items(), method.layer_weights.weights.tolist()
        ):
            step = plain.adaptable_parameters()[name] - method._initial[name]
            assert torch.allclose(parameter - method._initial[name], weight * step, atol=1e-6)


def test_a_reset_of_the_methods_own_forgets_the_information(frames):
    images, metas = frames
    inner = dict(type='sar', entropy_threshold=0.8, optimizer=dict(type='SGD', lr=LR))
    method = build_method(dict(inner, layer_weights=dict()), build_segmentor('deeplab'))
    method.adapt(images[0], metas)
    assert method.layer_weights.information.min() > 0
    method.recovery_threshold = 1e9
    method.adapt(images[1], metas)
    assert 'SAR' in method.last_step.own_reset
    assert not method.layer_weights.information.any()
    assert all(group['lr'] == LR for group in method.optimizer.param_groups)


BOTH = dict(TENT, layer_weights=dict(), reset_every=2)


def _steps(method, images, metas):
    """Predictions, and which frames began anew."""
    found, anew = [], []
    for image in images:
        method.last_step = StepRecord()
        found.append(method.adapt(image, metas))
        anew.append(method.last_step.own_reset is not None)
    return found, anew


def test_layer_weights_and_resets_go_together(frames):
    images, metas = frames
    method = build_method(BOTH, build_segmentor('deeplab')).eval()
    found, anew = _steps(method, images[:4], metas)
    assert anew == [False, False, True, False]
    for start in (0, 2):
        fresh = build_method(dict(TENT, layer_weights=dict()), build_segmentor('deeplab')).eval()
        for logits, expected in zip(
            found[start:], _steps(fresh, images[start : start + 2], metas)[0]
        ):
            assert torch.equal(logits, expected)
    information = method.layer_weights.information
    assert torch.equal(information, fresh.layer_weights.information)
    rates = [group['lr'] for group in method.optimizer.param_groups]
    assert rates == [group['lr'] for group in fresh.optimizer.param_groups]


def test_a_reset_resets_both(frames):
    images, metas = frames
    method = build_method(BOTH, build_segmentor('deeplab')).eval()
    start = method.method_state()
    _steps(method, images[:1], metas)
    assert not same_state(method.method_state(), start)
    method.reset()
    assert same_state(method.method_state(), start)


def test_the_state_of_both_is_saved(frames):
    images, metas = frames
    first, second = (build_method(BOTH, build_segmentor('deeplab')).eval() for _ in range(2))
    _steps(first, images[:3], metas)
    plain(state := first.method_state())
    second.load_method_state(state)
    assert same_state(second.method_state(), state)
    left, right = _steps(first, images[3:7], metas), _steps(second, images[3:7], metas)
    assert all(torch.equal(a, b) for a, b in zip(left[0], right[0])) and left[1] == right[1]
    assert same_state(first.method_state(), second.method_state())


def test_the_layers_follow_the_method_to_another_precision(frames):
    images, metas = frames
    method = build_method(BOTH, build_segmentor('deeplab')).eval()
    _steps(method, images[:1], metas)
    information = method.layer_weights.information.clone()
    method.double()
    assert torch.equal(method.layer_weights.information, information)
    assert method.adapt(images[1].double(), metas).dtype == torch.float64


@pytest.mark.parametrize(('options', 'words'), [
    (dict(TENT, layer_weights=dict(exponent=0.0)), 'exponent of layer_weights above 0'),
    (dict(TENT, layer_weights=dict(exponant=1.0)), "layer_weights has no option 'exponant'"),
    (dict(TENT, layer_weights=1.0), 'layer_weights to be a dictionary'),
    (dict(type='source', layer_weights=dict()), 'learns by gradients, such as tent'),
])  # fmt: skip
def test_wrong_options_are_refused(segmentor, options, words):
    with pytest.raises(ValueError, match=words):
        build_method(options, segmentor)
