"""LAW against the published loop: squared gradients summed up, scaled, and a rate a layer."""

import numpy as np
import pytest
import torch
from torch import nn

from ecotta_seg.methods import build_method
from ecotta_seg.methods.law import learning_weights
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
    method = build_method(dict(type='law', method=TENT, exponent=TAU), segmentor).eval()
    for image, logits in zip(images, expected):
        assert torch.allclose(method.adapt(image, metas), logits, atol=1e-6)
    assert (
        float(method.layers.weights.min()) == 0 and 0.99 < float(method.layers.weights.max()) <= 1
    )
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
    dict(type='rdumb', method=TENT),
], ids=lambda inner: inner['type'])  # fmt: skip
@pytest.mark.parametrize('mode', ['whole', 'slide'])
def test_any_gradient_method_is_weighted(inner, mode, frames):
    images, metas = frames
    test_cfg = dict(mode='slide', crop_size=(48, 48), stride=(32, 32)) if mode == 'slide' else {}
    method = build_method(dict(type='law', method=inner), build_segmentor('deeplab', **test_cfg))
    plain = build_method(inner, build_segmentor('deeplab', **test_cfg))
    assert torch.equal(method.adapt(images[0], metas), plain.adapt(images[0], metas))
    assert method.last_step.updated
    rates = [group['lr'] for group in method.optimizer.param_groups]
    base = plain.optimizer.param_groups[0]['lr']
    assert min(rates) == 0 and max(rates) == pytest.approx(base, rel=1e-6)
    if inner['type'] == 'ecotta':  # The others restore or recover, which hides the step.
        for (name, parameter), weight in zip(
            method.adaptable_parameters().items(), method.layers.weights.tolist()
        ):
            step = plain.adaptable_parameters()[name] - method.inner._initial[name]
            assert torch.allclose(parameter - method.inner._initial[name], weight * step, atol=1e-6)


def test_the_inner_meta_networks_can_be_saved():
    inner = dict(type='ecotta', meta_networks=dict(num_parts=3), optimizer=dict(type='SGD', lr=LR))
    method = build_method(dict(type='law', method=inner), build_segmentor('deeplab'))
    assert method.encoder is method.inner.encoder and method.adapter_parameters()
    tent = build_method(dict(type='law', method=TENT), build_segmentor('deeplab'))
    assert tent.encoder is None and not tent.adapter_parameters()


def test_a_reset_of_the_inner_methods_own_forgets_the_information(frames):
    images, metas = frames
    inner = dict(type='sar', entropy_threshold=0.8, optimizer=dict(type='SGD', lr=LR))
    method = build_method(dict(type='law', method=inner), build_segmentor('deeplab'))
    method.adapt(images[0], metas)
    assert method.layers.information.min() > 0
    method.inner.recovery_threshold = 1e9
    method.adapt(images[1], metas)
    assert 'SAR' in method.last_step.own_reset
    assert not method.layers.information.any()
    assert all(group['lr'] == LR for group in method.optimizer.param_groups)


LAW_AROUND = dict(type='law', method=dict(type='rdumb', method=TENT, every=2))
RDUMB_AROUND = dict(type='rdumb', method=dict(type='law', method=TENT), every=2)


def _steps(method, images, metas):
    """Predictions, and which frames began anew."""
    found, anew = [], []
    for image in images:
        method.last_step = StepRecord()
        found.append(method.adapt(image, metas))
        anew.append(method.last_step.own_reset is not None)
    return found, anew


@pytest.mark.parametrize('config', [LAW_AROUND, RDUMB_AROUND], ids=['law', 'rdumb'])
def test_law_and_rdumb_go_around_each_other(config, frames):
    images, metas = frames
    method = build_method(config, build_segmentor('deeplab')).eval()
    found, anew = _steps(method, images[:4], metas)
    assert anew == [False, False, True, False]
    for start in (0, 2):
        fresh = build_method(dict(type='law', method=TENT), build_segmentor('deeplab')).eval()
        for logits, expected in zip(
            found[start:], _steps(fresh, images[start : start + 2], metas)[0]
        ):
            assert torch.equal(logits, expected)
    law = method if config['type'] == 'law' else method.inner
    assert torch.equal(law.layers.information, fresh.layers.information)
    rates = [group['lr'] for group in method.optimizer.param_groups]
    assert rates == [group['lr'] for group in fresh.optimizer.param_groups]


@pytest.mark.parametrize('config', [LAW_AROUND, RDUMB_AROUND], ids=['law', 'rdumb'])
def test_a_reset_of_the_outer_one_resets_both(config, frames):
    images, metas = frames
    method = build_method(config, build_segmentor('deeplab')).eval()
    start = method.method_state()
    _steps(method, images[:1], metas)
    assert not same_state(method.method_state(), start)
    method.reset()
    assert same_state(method.method_state(), start)


@pytest.mark.parametrize('config', [LAW_AROUND, RDUMB_AROUND], ids=['law', 'rdumb'])
def test_the_state_of_both_is_saved(config, frames):
    images, metas = frames
    first, second = (build_method(config, build_segmentor('deeplab')).eval() for _ in range(2))
    _steps(first, images[:3], metas)
    plain(state := first.method_state())
    second.load_method_state(state)
    assert same_state(second.method_state(), state)
    left, right = _steps(first, images[3:7], metas), _steps(second, images[3:7], metas)
    assert all(torch.equal(a, b) for a, b in zip(left[0], right[0])) and left[1] == right[1]
    assert same_state(first.method_state(), second.method_state())


def test_one_laws_weights_are_not_set_by_another(segmentor):
    with pytest.raises(ValueError, match='one law'):
        build_method(dict(type='law', method=LAW_AROUND), segmentor)


def test_what_learns_nothing_is_refused_at_any_depth(segmentor):
    inner = dict(type='rdumb', method=dict(type='source'))
    with pytest.raises(
        ValueError, match="learns by gradients, such as tent or ecotta, got 'source'"
    ):
        build_method(dict(type='law', method=inner), segmentor)


def test_wrong_options_are_refused(segmentor):
    with pytest.raises(ValueError, match='above 0'):
        build_method(dict(type='law', method=TENT, exponent=0.0), segmentor)
