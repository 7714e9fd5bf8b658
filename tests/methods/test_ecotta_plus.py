"""EcoTTA+: the class-balanced loss against NumPy, the pull back against its formula."""

from copy import deepcopy

import numpy as np
import pytest
import torch
from mmengine.config import ConfigDict
from mmseg.registry import MODELS

from ecotta_seg.layers.adaptive_batch_norm import AdaptiveBatchNorm2d
from ecotta_seg.layers.losses import class_balanced_confident_entropy, confident_entropy
from ecotta_seg.methods import build_method
from tests.segmentors import build_segmentor

MODEL = dict(
    type='mmseg.EncoderDecoder',
    data_preprocessor=None,
    backbone=dict(
        type='mmseg.ResNetV1c', depth=18, base_channels=4, stem_channels=4, num_stages=4,
        out_indices=(0, 1, 2, 3), norm_cfg=dict(type='BN'),
    ),
    decode_head=dict(
        type='mmseg.FCNHead', in_channels=32, in_index=3, channels=8, num_convs=1, num_classes=5,
        norm_cfg=dict(type='BN'),
        loss_decode=dict(type='mmseg.CrossEntropyLoss', avg_non_ignore=True),
    ),
    test_cfg=dict(mode='whole'),
)  # fmt: skip
OPTIONS = dict(
    type='ecotta_plus',
    meta_networks=dict(num_parts=2, start='identity'),
    optimizer=dict(type='SGD', lr=0.1),
    entropy_threshold=1.1,
)
METAS = [dict(img_shape=(32, 48), ori_shape=(32, 48))]


def _numpy_loss(logits, threshold, exponent):
    shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
    p = shifted / shifted.sum(axis=1, keepdims=True)
    entropy = -(p * np.log(p)).sum(axis=1).ravel()
    predicted = logits.argmax(axis=1).ravel()
    total = weights = 0.0
    for c in range(logits.shape[1]):
        chosen = entropy[(predicted == c) & (entropy < threshold)]
        if len(chosen):
            total += len(chosen) ** -exponent * chosen.sum()
            weights += len(chosen) ** -exponent * len(chosen)
    return total / weights


@pytest.mark.parametrize('exponent', [0.0, 0.5, 1.0])
def test_class_balanced_loss_equals_numpy(exponent):
    logits = np.random.default_rng(0).normal(0, 2, (1, 5, 7, 9))
    # One class all over the frame, so that balance makes a difference.
    logits[:, 0, :5] += 4
    loss, fraction = class_balanced_confident_entropy(torch.tensor(logits), 0.8, exponent)
    assert loss.item() == pytest.approx(_numpy_loss(logits, 0.8, exponent), rel=1e-9)
    plain = confident_entropy(torch.tensor(logits), 0.8)
    assert fraction == plain.confident_fraction
    if exponent == 0:
        assert loss.item() == pytest.approx(plain.loss.item(), rel=1e-9)
    else:
        assert abs(loss.item() - plain.loss.item()) > 1e-3


def test_no_confident_pixel_gives_no_gradient():
    logits = torch.zeros(1, 5, 4, 4, requires_grad=True)
    loss, fraction = class_balanced_confident_entropy(logits, 0.5, 0.5)
    assert loss == 0 and fraction == 0 and not loss.requires_grad


def _method(**changes):
    torch.manual_seed(0)
    segmentor = MODELS.build(ConfigDict(deepcopy(MODEL)))
    return build_method({**OPTIONS, **changes}, segmentor).eval()


RATE, MOMENTUM, LAMBDA, BALANCE, BACK = 0.02, 0.9, 2.0, 0.5, 0.1


def _written_out(method, image, metas, threshold):
    """The loss of a frame at the method's present strength, and its gradients, term by term."""
    encoder, s = method.encoder, float(method.strength)
    logits = method.segmentor.encode_decode(image, metas)
    p = logits.softmax(dim=1)
    entropy, predicted = -(p * p.log()).sum(dim=1), logits.argmax(dim=1)
    chosen = [entropy[(predicted == c) & (entropy < threshold)] for c in range(logits.shape[1])]
    shares = [len(pixels) ** (1 - BALANCE) for pixels in chosen]
    loss = sum(share * h.mean() for share, h in zip(shares, chosen) if len(h)) / sum(shares)
    plain = torch.cat(chosen).mean()
    inputs, x, outputs, distance = [], encoder.units.stem(image), {}, 0.0
    for k, network in enumerate(encoder.meta_networks):
        inputs.append(x.detach())
        frozen = encoder.run_part(k, x, outputs)
        x = encoder.leave_part(k, network(frozen, x), outputs)
    for k, network in enumerate(encoder.meta_networks):
        frozen = encoder.run_part(k, inputs[k], {}).detach()
        gain = network.gain.view(-1, 1, 1)
        changed = s * network.norm(frozen) + s * gain * network.conv_block(inputs[k])
        distance = distance + changed.abs().mean() / frozen.abs().mean()
    parameters = method.adaptable_parameters()
    gradients = torch.autograd.grad(loss + LAMBDA * distance, list(parameters.values()))
    assert (loss - plain).detach().abs() > 1e-3, 'the balance of classes has to matter'
    return dict(zip(parameters, gradients)), loss.item(), distance.item()


@pytest.mark.parametrize('engine', [False, True])
def test_a_step_is_what_the_docs_write_out(segmentor, frames, engine):
    images, metas = frames
    kind = 'LN' if hasattr(segmentor.backbone, 'layers') else 'BN'
    options = dict(
        type='ecotta_plus',
        meta_networks=dict(num_parts=3, start='identity', norm=kind),
        frozen_norm=dict(mode='drift'),
        shift_gate=dict(half=85.0, exponent=1.0),
        optimizer=dict(type='SGD', lr=RATE, momentum=MOMENTUM),
        entropy_threshold=0.75,
        class_balance=BALANCE,
        regularisation_weight=LAMBDA,
        relative_regularisation=True,
        restore_rate=BACK,
        memory_engine=engine,
    )
    method = build_method(options, segmentor).eval()
    parameters = method.adaptable_parameters()
    start = {name: p.detach().clone() for name, p in parameters.items()}
    torch.manual_seed(1)
    for parameter in parameters.values():
        # Away from the identity, so that every term has a gradient.
        parameter.data += 0.1 * torch.randn_like(parameter)
    momentum = {name: 0.0 for name in parameters}
    for image in images:
        method.predict_frame(image, metas)
        strength = float(method.strength)
        gradients, loss, distance = _written_out(method, image, metas, method.entropy_threshold)
        before = {name: p.detach().clone() for name, p in parameters.items()}
        method.adapt(image, metas)
        assert float(method.strength) == strength and 0.1 < strength < 0.9
        assert method.last_step.entropy == pytest.approx(loss, rel=1e-5)
        assert method.last_step.regularisation == pytest.approx(distance, rel=1e-5)
        for name, parameter in parameters.items():
            momentum[name] = MOMENTUM * momentum[name] + gradients[name]
            stepped = before[name] - RATE * momentum[name]
            expected = stepped + BACK * (start[name] - stepped)
            change = (expected - before[name]).abs().max()
            assert (parameter - expected).abs().max() <= 1e-7 + 1e-3 * change, name


def test_each_update_goes_back_a_share_of_the_way():
    frame = torch.randn(1, 3, 32, 48)
    free, pulled = _method(restore_rate=0.0), _method(restore_rate=0.25)
    start = {name: p.detach().clone() for name, p in free.adaptable_parameters().items()}
    free.adapt(frame, METAS)
    pulled.adapt(frame, METAS)
    assert free.last_step.updated
    moved = 0.0
    for name, parameter in pulled.adaptable_parameters().items():
        step = free.adaptable_parameters()[name].detach() - start[name]
        assert torch.allclose(parameter, start[name] + 0.75 * step, atol=1e-7)
        moved += step.abs().sum().item()
    assert moved > 0


def test_full_restoring_never_leaves_the_source():
    frame = torch.randn(1, 3, 32, 48)
    method = _method(restore_rate=1.0)
    expected = method.predict(frame, METAS)
    for _ in range(3):
        method.adapt(torch.randn(1, 3, 32, 48), METAS)
    assert torch.equal(method.predict(frame, METAS), expected)


@pytest.mark.parametrize('option', ['restore_rate', 'class_balance'])
def test_options_out_of_range_are_refused(option):
    with pytest.raises(ValueError, match='from 0 to 1'):
        _method(**{option: 1.5})


GATED = dict(frozen_norm=dict(mode='drift'), shift_gate=dict(half=5.4, exponent=4.0))


def _norms(method):
    return [m for m in method.segmentor.modules() if isinstance(m, AdaptiveBatchNorm2d)]


def _gated(**changes):
    method = _method(**GATED, **changes)
    for parameter in method.adaptable_parameters().values():
        # Away from the identity start, so that it shows how far the meta networks act.
        parameter.data += 0.1 * torch.randn_like(parameter)
    return method


def test_the_strength_is_that_of_the_very_frame():
    method = _gated()
    frame = torch.randn(1, 3, 32, 48)
    with method.encoder.bypass(), method._probe_meter.listening():
        method.strength.zero_()
        alone = method.predict(frame, METAS)
    p = alone.softmax(1).double().numpy()[:, :, ::4, ::4]
    entropy = -(p * np.log(p)).sum(1).mean() / np.log(5)
    usual_drift, usual_entropy, _ = method.usual_values.tolist()
    drift = method._probe_meter.mean()
    expected = method.shift_gate.strength(drift / usual_drift, entropy / usual_entropy)
    assert method.probe_norms == _norms(method) and 0.5 < expected < 1
    # Before the first frame: the source alone.
    assert torch.equal(method.predict(frame, METAS), alone)
    logits = method.adapt(frame, METAS)
    assert method.strength.item() == pytest.approx(expected, rel=1e-4)
    assert not torch.allclose(logits, alone)
    # Predictions that are not the stream's next frame are not followed.
    before = method.strength.clone()
    method.predict(torch.zeros_like(frame), METAS)
    assert torch.equal(method.strength, before)
    method.reset()
    assert method.strength == 0


def test_other_views_are_predicted_with_the_strength_of_their_frame():
    method = _gated()
    method.views = 2
    used = []
    predict = method.predict

    def spy(inputs, metas):
        used.append(float(method.strength))
        return predict(inputs, metas)

    method.predict = spy
    method.other_views(torch.randn(1, 3, 32, 48), METAS)
    assert len(used) == 1 and used[0] == float(method.strength) > 0.5


def test_a_stream_as_the_source_knows_it_meets_the_source():
    method = _gated()
    frame = torch.randn(1, 3, 32, 48)
    norms, seen = _norms(method), {}
    for norm in norms:
        norm.register_forward_pre_hook(lambda norm, args: seen.__setitem__(norm, args[0]))
    with method.encoder.bypass():
        # One layer after the other takes the frame's own statistics for the source's.
        for norm in norms:
            method.predict(frame, METAS)
            var, mean = torch.var_mean(seen[norm], dim=(0, 2, 3), correction=0)
            norm.running_mean.copy_(mean)
            norm.running_var.copy_(var)
        alone = method.predict_frame(frame, METAS)
    assert method.strength < 1e-6
    assert torch.equal(method.adapt(frame, METAS), alone)


def test_what_was_learned_has_no_say_in_the_strength():
    frame = torch.randn(1, 3, 64, 96)
    metas = [dict(img_shape=(64, 96), ori_shape=(64, 96))]
    strengths = {}
    for kind in ('deeplab', 'segformer'):
        for changed in (0.0, 1.0):
            norm = 'BN' if kind == 'deeplab' else 'LN'
            options = {**OPTIONS, **GATED, 'shift_gate': dict(half=200.0, exponent=1.0)}
            options['meta_networks'] = dict(num_parts=2, start='identity', norm=norm)
            torch.manual_seed(0)
            method = build_method(options, build_segmentor(kind)).eval()
            for parameter in method.adaptable_parameters().values():
                parameter.data += changed * torch.randn_like(parameter)
            method.strength.fill_(1.0)
            method.predict_frame(frame, metas)
            strengths[kind, changed] = float(method.strength)
            assert method.encoder.meta_networks[0].strength == float(method.strength)
    for kind in ('deeplab', 'segformer'):
        assert 0.1 < strengths[kind, 0.0] < 0.9
        assert strengths[kind, 0.0] == strengths[kind, 1.0]


@pytest.mark.parametrize('weight', [0.5, 10.0])
def test_a_norm_is_weighed_up_as_far_as_the_strength_lets_it(weight):
    options = {**OPTIONS, **GATED, 'frozen_norm': dict(mode='drift', weight=weight)}
    options['meta_networks'] = dict(num_parts=2, start='identity', norm='LN')
    method = build_method(options, build_segmentor('segformer')).eval()
    frame, metas = torch.randn(1, 3, 64, 96), [dict(img_shape=(64, 96), ori_shape=(64, 96))]
    for strength in (0.0, 0.25, 1.0):
        method.strength.fill_(strength)
        method.predict(frame, metas)
        low = min(weight, 1.0)
        for norm in _norms(method):
            assert norm.blend_weight == pytest.approx(low + strength * (weight - low))
    # What is measured of a frame does not depend on the last one's strength.
    found = []
    for strength in (0.0, 1.0):
        method.strength.fill_(strength)
        method.predict_frame(frame, metas)
        found.append(float(method.strength))
    assert found[0] == found[1]


def test_a_run_of_the_frozen_model_is_of_half_the_size():
    options = {**OPTIONS, **GATED}
    options['meta_networks'] = dict(num_parts=2, start='identity', norm='LN')
    method = build_method(options, build_segmentor('segformer')).eval()
    sizes = []
    # What is run on an image first, by the model's own forward and by the memory engine alike.
    stem = method.encoder.backbone.layers[0][0]
    stem.register_forward_pre_hook(lambda _, args: sizes.append(args[0].shape[2:]))
    metas = [dict(img_shape=(256, 320), ori_shape=(256, 320))]
    method.predict_frame(torch.randn(1, 3, 256, 320), metas)
    assert sizes == [(128, 160), (256, 320)]


@pytest.mark.parametrize('engine', [False, True])
def test_beyond_the_radius_the_way_back_is_as_large_a_share_as_it_is_too_far(engine):
    frame = torch.randn(1, 3, 32, 48)
    free = _gated(restore_rate=0.0, memory_engine=engine)
    start = {name: p.detach().clone() for name, p in free._initial.items()}
    free.adapt(frame, METAS)
    distance = free.last_step.regularisation
    assert distance > 0.01 and free.last_step.updated
    for radius, rate, share in (
        (2 * distance, 0.0, 0.0),
        (0.8 * distance, 0.0, 0.2),
        (0.1 * distance, 0.0, 0.9),
        (0.8 * distance, 0.3, 0.3),
    ):
        held = _gated(restore_rate=rate, memory_engine=engine, trust_radius=radius)
        held.load_method_state(_gated(memory_engine=engine).method_state())
        held.adapt(frame, METAS)
        assert held.last_step.regularisation == pytest.approx(distance, rel=1e-6)
        for name, parameter in held.adaptable_parameters().items():
            learned = free.adaptable_parameters()[name].detach()
            expected = learned + share * (start[name] - learned)
            assert torch.allclose(parameter, expected, atol=1e-6), (radius, name)


def test_within_a_radius_no_stream_gets_away():
    torch.manual_seed(0)
    frames = [torch.randn(1, 3, 32, 48) for _ in range(60)]
    far = {}
    for radius in (None, 0.03):
        options = dict(regularisation_weight=0.0, trust_radius=radius)
        method = _method(optimizer=dict(type='SGD', lr=0.2, momentum=0.9), **options)
        distances = []
        for frame in frames:
            method.adapt(frame, METAS)
            distances.append(method.last_step.regularisation)
        far[radius] = max(distances)
    assert far[None] > 1.0
    assert far[0.03] < 0.05


@pytest.mark.parametrize('radius', [0.0, -1.0, float('nan')])
def test_a_radius_out_of_range_is_refused(radius):
    with pytest.raises(ValueError, match='trust_radius above 0'):
        _method(trust_radius=radius)


def test_the_strength_is_saved_and_gone_back_to():
    method, other = _gated(), _gated()
    method.adapt(torch.randn(1, 3, 32, 48), METAS)
    other.load_method_state(method.method_state())
    assert method.strength > 0 and torch.equal(other.strength, method.strength)
    frame = torch.randn(1, 3, 32, 48)
    assert torch.equal(other.adapt(frame, METAS), method.adapt(frame, METAS))


def test_a_gate_that_does_not_fit_is_refused():
    for changes, words in (
        (dict(shift_gate=dict(half=0.0)), 'above 0'),
        (dict(shift_gate=dict(hafl=0.1)), 'hafl'),
        (dict(frozen_norm=dict(mode='frame')), "mode 'calibrated' or 'drift'"),
        (dict(meta_networks=dict(num_parts=2, start='paper')), "start='identity'"),
    ):
        with pytest.raises(ValueError, match=words):
            _method(**{**GATED, **changes})
