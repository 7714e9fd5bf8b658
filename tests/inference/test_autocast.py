"""``autocast='bf16'`` against the same step written out under ``torch.autocast``."""

from contextlib import nullcontext
from copy import deepcopy
from math import log

import pytest
import torch
import torch.nn.functional as F
from mmengine.config import Config
from mmseg.structures import SegDataSample

from ecotta_seg.inference.autocast import wrong_convolutions
from ecotta_seg.layers.adaptive_batch_norm import AdaptiveBatchNorm2d
from ecotta_seg.methods import build_method
from tests.methods.test_every_method import METHODS, _method, method_options
from tests.segmentors import CONFIGS, build_segmentor, calibrated, in_frame_mode

KINDS = sorted(CONFIGS)


def bf16():
    """What the option stands for, on the CPU."""
    return torch.autocast('cpu', dtype=torch.bfloat16)


def _ecotta(kind, **options):
    return build_method(
        dict(
            type='ecotta',
            meta_networks=dict(num_parts=2, start='paper'),
            frozen_norm=dict(mode='drift'),
            optimizer=dict(type='SGD', lr=0.01),
            entropy_threshold=0.75,
            **options,
        ),
        build_segmentor(kind),
    ).eval()


def _full_size(small, image):
    return F.interpolate(small.float(), image.shape[2:], mode='bilinear', align_corners=False)


def _entropy(logits):
    probabilities = logits.softmax(1)
    return -(probabilities * logits.log_softmax(1)).sum(1)


@pytest.mark.parametrize('kind', KINDS)
def test_ecotta_is_autograd_under_autocast(kind, frames):
    image, metas = frames[0][0], frames[1]
    ours, plain = _ecotta(kind, autocast='bf16'), _ecotta(kind, memory_engine=False)
    segmentor, encoder = plain.segmentor, plain.encoder
    with encoder.recording() as parts, bf16():
        small = segmentor.decode_head.forward(segmentor.backbone(image))
    logits = _full_size(small, image)
    entropy = _entropy(logits)
    loss = entropy[entropy < 0.75 * log(7)].mean()
    expected = {
        p: gradient
        for p, gradient in zip(
            encoder.meta_networks.parameters(),
            torch.autograd.grad(loss, list(encoder.meta_networks.parameters()), retain_graph=True),
        )
    }
    regularisation = 0.0
    for network, part in zip(encoder.meta_networks, parts):
        assert part.frozen.dtype == torch.bfloat16
        term = (part.adapted.float() - part.frozen.float().detach()).abs().mean()
        own = list(network.parameters())
        for p, gradient in zip(own, torch.autograd.grad(0.5 * term, own, retain_graph=True)):
            expected[p] = expected[p] + gradient
        regularisation += float(term.detach())
    before = {name: p.detach().clone() for name, p in ours.adaptable_parameters().items()}
    assert torch.equal(ours.adapt(image, metas), logits)
    assert ours.last_step.updated and 0 < ours.last_step.confident_fraction < 1
    assert ours.last_step.entropy == pytest.approx(float(loss.detach()), rel=1e-5)
    assert ours.last_step.regularisation == pytest.approx(regularisation, rel=1e-5)
    for name, parameter in plain.adaptable_parameters().items():
        step = (before[name] - ours.adaptable_parameters()[name]) / 0.01
        # What bfloat16 rounds is the same on both sides; the step is a difference of float32s.
        assert torch.allclose(step, expected[parameter], 1e-3, 1e-4), name
        assert step.any(), name


@pytest.mark.parametrize('kind', KINDS)
def test_tent_is_autograd_under_autocast(kind, frames):
    image, metas = frames[0][0], frames[1]
    options = dict(type='tent', optimizer=dict(type='SGD', lr=0.1), autocast='bf16')
    ours = build_method(options, build_segmentor(kind)).eval()
    # torch's own norms, in training mode.
    reference = in_frame_mode(build_segmentor(kind))
    names = list(ours.adaptable_parameters())
    parameters = dict(reference.named_parameters())
    tuned = [parameters[name].requires_grad_() for name in names]

    def by_hand(precision):
        with precision:
            small = reference.decode_head.forward(reference.backbone(image))
        logits = _full_size(small, image)
        return logits, torch.autograd.grad(_entropy(logits).mean(), tuned)

    exact = by_hand(nullcontext())[1]
    logits, gradients = by_hand(bf16())
    assert torch.allclose(ours.adapt(image, metas), logits, 1e-5, 1e-5)
    errors, roundings = [], []
    for name, parameter, gradient, without in zip(names, tuned, gradients, exact):
        found = (parameter.detach() - ours.adaptable_parameters()[name]) / 0.1
        errors.append((found - gradient).norm())
        roundings.append((gradient - without).norm())
        # A last bit of bfloat16 that turns over far up changes sums that nearly cancel.
        assert errors[-1] <= roundings[-1] + 1e-4, name
    assert torch.stack(errors).norm() <= 0.1 * torch.stack(roundings).norm() + 1e-4


@pytest.mark.parametrize('kind', KINDS)
@pytest.mark.parametrize('name', sorted(METHODS))
def test_only_the_network_is_narrow(name, kind, frames):
    images, metas = frames
    options = dict(method_options(name), autocast='bf16')
    if kind == 'segformer' and name.startswith(('ecotta', 'ladder')):
        options['meta_networks']['norm'] = 'LN'
    method = calibrated(build_method(options, build_segmentor(kind)).eval())
    wide = _method(name, kind)
    dtypes = {key: tensor.dtype for key, tensor in method.learned_tensors().items()}
    seen, gradients = set(), set()
    head = method.segmentor.decode_head
    head.conv_seg.register_forward_hook(lambda module, inputs, output: seen.add(output.dtype))
    for parameter in method.adaptable_parameters().values():
        if parameter.requires_grad:
            parameter.register_hook(lambda gradient: gradients.add(gradient.dtype))
    logits, expected = method.adapt(images[0], metas), wide.adapt(images[0], metas)
    assert seen == {torch.bfloat16} and logits.dtype == torch.float32
    # Not the same: the option is not passed over. And not far away.
    assert not torch.equal(logits, expected)
    assert (logits - expected).norm() < 0.3 * expected.norm()
    for image in images[1:4]:
        assert method.adapt(image, metas).isfinite().all()
    assert gradients <= {torch.float32}
    assert {key: t.dtype for key, t in method.learned_tensors().items()} == dtypes
    assert all(t.isfinite().all() for t in method.learned_tensors().values())
    states = [t for state in method.optimizer_state().values() for t in state.values()]
    assert all(t.dtype == torch.float32 for t in states if isinstance(t, torch.Tensor))
    assert method.predict(images[0], metas).dtype == torch.float32


def test_statistics_are_float32(frames):
    image, metas = frames[0][0], frames[1]
    method = _ecotta('deeplab', autocast='bf16')
    seen = []
    for module in method.segmentor.modules():
        if isinstance(module, AdaptiveBatchNorm2d):
            statistics = module.statistics

            def noting(x, *args, statistics=statistics):
                found = statistics(x, *args)
                seen.append((x.dtype, *(t.dtype for t in found)))
                return found

            module.statistics = noting
    method.adapt(image, metas)
    assert set(seen) == {(torch.bfloat16, torch.float32, torch.float32)}


def test_windows_go_through_autocast_too(frames):
    sliding = dict(mode='slide', crop_size=(48, 48), stride=(32, 32))
    options = dict(type='source', autocast='bf16')
    method = build_method(options, build_segmentor('deeplab', **sliding)).eval()
    segmentor = build_segmentor('deeplab', **sliding)
    image, metas = frames[0][0], frames[1]
    logits = method.adapt(image, metas)
    # The first window is the only one in this corner.
    with torch.no_grad(), bf16():
        small = segmentor.decode_head.forward(segmentor.backbone(image[:, :, :48, :48]))
    expected = _full_size(small, image[:, :, :48, :48])[:, :, :13, :32]
    assert torch.equal(logits[:, :, :13, :32], expected)


def test_an_autocast_around_the_stream_keeps_no_old_weights(frames):
    images, metas = frames
    around, alone = _ecotta('deeplab', autocast='bf16'), _ecotta('deeplab', autocast='bf16')
    with bf16():
        found = [around.adapt(image, metas) for image in images[:3]]
    for logits, image in zip(found, images):
        assert torch.equal(logits, alone.adapt(image, metas))


def test_a_copy_has_a_network_of_its_own(frames):
    image, metas = frames[0][0], frames[1]
    method = _ecotta('deeplab', autocast='bf16')
    copied = deepcopy(method)
    expected = method.predict(image, metas)
    with torch.no_grad():
        method.segmentor.decode_head.conv_seg.weight.zero_()
        next(method.segmentor.backbone.parameters()).zero_()
    assert torch.equal(copied.predict(image, metas), expected)
    assert not torch.equal(method.predict(image, metas), expected)


def test_from_the_command_line(frames):
    cfg = Config(dict(adaptation=dict(method_options('ecotta'), reset_every=1000)))
    cfg.merge_from_dict({'adaptation.autocast': 'bf16'})
    method = build_method(cfg.adaptation.to_dict(), build_segmentor('deeplab')).eval()
    assert method.autocast == 'bf16'
    assert method.engine is None and method.planned is None
    untouched = build_method(method_options('ecotta'), build_segmentor('deeplab'))
    assert untouched.autocast is None and untouched.engine is not None
    off = build_method(dict(method_options('ecotta'), autocast=None), build_segmentor('deeplab'))
    assert off.engine is not None


@pytest.mark.parametrize('name', ['source', 'tent', 'ecotta', 'rdumb'])
@pytest.mark.parametrize('value', ['fp16', 'float', True, 16])
def test_what_is_unknown_is_refused(name, value):
    with pytest.raises(ValueError, match=r"one of \['bf16'\] or None, got"):
        build_method(dict(method_options(name), autocast=value), build_segmentor('deeplab'))


def test_a_budget_is_refused():
    inner = dict(method_options('ecotta'), memory_budget='1.0x')
    with pytest.raises(ValueError, match=r"leave out memory_budget or autocast='bf16'"):
        build_method(dict(inner, autocast='bf16'), build_segmentor('deeplab'))


class _WrongWhereNarrow(torch.nn.Conv2d):
    """Convolves like torch with AMX: something else than asked for, in bfloat16 alone."""

    def forward(self, x):
        right = super().forward(x)
        return right.roll(1, 1) if right.dtype == torch.bfloat16 else right


def test_convolutions_that_the_machine_computes_wrongly_are_told(monkeypatch):
    told = []
    monkeypatch.setattr('ecotta_seg.methods.base.print_log', lambda *args: told.append(args[0]))
    # None of its convolutions is of the kind.
    build_method(dict(type='source', autocast='bf16'), build_segmentor('deeplab'))
    assert told == []
    assert wrong_convolutions(torch.nn.Conv2d(32, 32, 8, 8), torch.bfloat16) == []
    segmentor = build_segmentor('segformer')
    segmentor.backbone.layers[0][1][0].attn.sr = _WrongWhereNarrow(8, 8, 8, 8)
    build_method(dict(type='source'), segmentor)
    assert told == []
    build_method(dict(type='source', autocast='bf16'), segmentor)
    assert len(told) == 1 and 'backbone.layers.0.1.0.attn.sr' in told[0]
    assert 'ONEDNN_MAX_CPU_ISA' in told[0]


@pytest.mark.parametrize('method', ['source', 'tent', 'ecotta'])
def test_autocast_around_a_step_is_refused(method):
    options = dict(type=method)
    if method != 'source':
        options['optimizer'] = dict(type='SGD', lr=0.01)
    if method == 'ecotta':
        options['meta_networks'] = dict(num_parts=2)
    built = build_method(options, build_segmentor('deeplab')).eval()
    sample = SegDataSample(metainfo=dict(img_shape=(64, 64), ori_shape=(64, 64)))
    batch = dict(inputs=[torch.zeros(3, 64, 64)], data_samples=[sample])
    with bf16(), pytest.raises(ValueError, match="under torch.autocast.*set autocast='bf16'"):
        built.test_step(batch)
