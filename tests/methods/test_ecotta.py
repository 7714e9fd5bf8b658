"""EcoTTA's step against Algorithm 1 written out in plain autograd."""

from copy import deepcopy
from math import log

import pytest
import torch

from ecotta_seg.methods import build_method

OPTIONS = dict(
    type='ecotta',
    meta_networks=dict(num_parts=3, start='paper'),
    optimizer=dict(type='SGD', lr=0.01, momentum=0.9),
    regularisation_weight=0.5,
)


def _algorithm_1(method, image, metas, threshold, weight):
    """Gradients by two separate forwards: the whole net, and each part on detached inputs."""
    encoder, segmentor = method.encoder, method.segmentor
    parameters = method.adaptable_parameters()
    with encoder.recording() as parts:
        logits = segmentor.encode_decode(image, metas)
    inputs, x, outputs = [], encoder.units.stem(image), {}
    for k, meta_network in enumerate(encoder.meta_networks):
        inputs.append(x.detach())
        frozen = encoder.run_part(k, x, outputs)
        x = encoder.leave_part(k, meta_network(frozen, x), outputs)
    p = logits.softmax(dim=1)
    entropy = -(p * p.log()).sum(dim=1)
    confident = entropy < threshold
    loss = entropy[confident].mean()
    for k, meta_network in enumerate(encoder.meta_networks):
        target = encoder.run_part(k, inputs[k], {}).detach()
        loss = loss + weight * (meta_network(target, inputs[k]) - target).abs().mean()
    gradients = torch.autograd.grad(loss, list(parameters.values()), allow_unused=True)
    return dict(zip(parameters, gradients)), loss, confident.float().mean(), len(parts)


def test_step_equals_algorithm_1_and_sgd(segmentor, frames):
    images, metas = frames
    # Ten steps, at a rate at which some pixels stay confident and others do not.
    optimizer = dict(type='SGD', lr=1e-3, momentum=0.9)
    method = build_method(dict(deepcopy(OPTIONS), optimizer=optimizer), segmentor).eval()
    # Somewhere in the middle of what pixels have, so that the mask matters.
    transformer = hasattr(segmentor.decode_head, 'fusion_conv')
    method.entropy_threshold = (0.6 if transformer else 0.9) * log(7)
    momentum = {name: 0.0 for name in method.adaptable_parameters()}
    for image in images:
        expected, loss, fraction, parts = _algorithm_1(
            method, image, metas, method.entropy_threshold, 0.5
        )
        before = {n: p.detach().clone() for n, p in method.adaptable_parameters().items()}
        prediction = method.predict(image, metas)
        logits = method.adapt(image, metas)
        assert parts == 3
        # The forward that is scored is the one before the update.
        assert torch.allclose(logits, prediction, atol=1e-5)
        record = method.last_step
        assert 0 < record.confident_fraction < 1 and record.updated
        assert record.confident_fraction == pytest.approx(fraction.item(), abs=1e-6)
        assert record.loss == pytest.approx(loss.item(), rel=1e-4)
        for name, parameter in method.adaptable_parameters().items():
            momentum[name] = 0.9 * momentum[name] + expected[name]
            step = before[name] - 1e-3 * momentum[name]
            scale = expected[name].abs().max().item()
            assert torch.allclose(parameter, step, atol=1e-6 + 1e-4 * 1e-3 * scale), name


def test_without_confident_pixels_only_the_regulariser_steps(segmentor, frames):
    images, metas = frames
    method = build_method(deepcopy(OPTIONS), segmentor).eval()
    method.entropy_threshold = 0.0
    method.adapt(images[0], metas)
    assert method.last_step.entropy == 0 and method.last_step.confident_fraction == 0
    assert method.last_step.regularisation > 0 and method.last_step.updated
    assert all(p.isfinite().all() for p in method.adaptable_parameters().values())


@pytest.mark.parametrize('mode', ['source', 'frame', 'drift'])
def test_the_frozen_model_stays_bit_identical(segmentor, frames, mode):
    images, metas = frames
    original = deepcopy(segmentor.state_dict())
    method = build_method({**deepcopy(OPTIONS), 'frozen_norm': dict(mode=mode)}, segmentor).eval()
    adapters = {n: p.detach().clone() for n, p in method.adapter_parameters().items()}
    for image in images:
        method.adapt(image, metas)
    found = {
        k.replace('backbone.backbone.', 'backbone.'): v for k, v in segmentor.state_dict().items()
    }
    assert all(torch.equal(found[name], value) for name, value in original.items())
    moved = [not torch.equal(p, adapters[n]) for n, p in method.adapter_parameters().items()]
    assert all(moved)


def test_reset_goes_back_to_the_first_frame(segmentor, frames):
    images, metas = frames
    method = build_method(deepcopy(OPTIONS), segmentor).eval()
    first = [method.adapt(image, metas) for image in images[:3]]
    method.reset()
    again = [method.adapt(image, metas) for image in images[:3]]
    assert all(torch.equal(a, b) for a, b in zip(first, again))


@pytest.mark.parametrize(('changes', 'message'), [
    (dict(entropy_treshold=0.4), "did you mean 'entropy_threshold'"),
    (dict(meta_networks=dict(num_part=4)), "did you mean 'num_parts'"),
    (dict(optimizer=dict(type='SDG', lr=1)), 'could not be built'),
    (dict(optimizer='SGD'), "the config of a torch optimizer, .* got 'SGD'"),
    (dict(entropy_threshold=0.0), 'entropy_threshold above 0'),
    (dict(type='ecota'), "unknown adaptation method 'ecota'"),
])  # fmt: skip
def test_wrong_options_are_one_sentence(segmentor, changes, message):
    with pytest.raises((ValueError, TypeError), match=message):
        build_method({**deepcopy(OPTIONS), **changes}, segmentor)
