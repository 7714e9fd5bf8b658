"""The engine's gradients against plain autograd's."""

from dataclasses import replace

import pytest
import torch

from ecotta_seg.memory.budget.plan import Plan, fastest_plan, leanest_plan
from ecotta_seg.memory.budget.planned_step import PlannedStep
from ecotta_seg.memory.engine.memory_engine import MemoryEngine
from ecotta_seg.methods import build_method
from tests.segmentors import build_segmentor, published_method

META = {
    'paper': dict(num_parts=3, start='paper'),
    'identity': dict(num_parts=4, start='identity'),
    'tokens': dict(num_parts=3, start='identity', norm='LN', depthwise=True),
    'pointwise': dict(num_parts=2, start='paper', kernel_size=1, norm='affine'),
}


def _method(kind, meta, engine, dtype=torch.float64, type='ecotta', test_cfg=None, **options):
    options = dict(
        type=type,
        meta_networks=dict(META[meta]),
        frozen_norm=dict(mode='drift'),
        optimizer=dict(type='SGD', lr=0.01, momentum=0.9),
        entropy_threshold=0.75,
        memory_engine=engine,
        **options,
    )
    method = build_method(options, build_segmentor(kind, **(test_cfg or {}))).to(dtype).eval()
    torch.manual_seed(3)
    for parameter in method.adaptable_parameters().values():
        # Away from an identity start, where every difference is 0.
        parameter.data += 0.05 * torch.randn_like(parameter)
    method.start()
    # Without the engine the method is the reference: torch's own autograd.
    method.lean = engine
    return method


def gradients_of(method, image, metas):
    """The gradients of a step that is not taken, and its logits."""
    logits = method.propose(image, metas)
    found = {n: p.grad.clone() for n, p in method.adaptable_parameters().items()}
    method.discard()
    return logits, found


def _image(*shape):
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def _metas(image, **more):
    size = tuple(image.shape[2:])
    return [dict(img_shape=size, ori_shape=size, **more)] * image.shape[0]


@pytest.mark.parametrize('meta', sorted(META))
@pytest.mark.parametrize('kind', ['deeplab', 'segformer'])
@pytest.mark.parametrize(
    'shape, relative, smoothing',
    [
        ((1, 3, 61, 93), False, 0.0),
        ((2, 3, 64, 96), False, 0.0),
        ((1, 3, 61, 93), True, 0.0),
        ((1, 3, 61, 93), True, 0.2),
        ((2, 3, 64, 96), False, 0.2),
    ],
)
def test_gradients_in_float64(kind, meta, shape, relative, smoothing):
    image = _image(*shape)
    metas = _metas(image)
    plain, ours = (
        _method(
            kind, meta, engine, relative_regularisation=relative, regularisation_smoothing=smoothing
        )
        for engine in (False, True)
    )
    assert ours.engine.fallbacks() == []
    logits, expected = gradients_of(plain, image, metas)
    ours_logits, found = gradients_of(ours, image, metas)
    assert torch.equal(ours_logits, logits)
    assert 0 < plain.last_step.confident_fraction < 1
    for field in ('loss', 'entropy', 'regularisation', 'confident_fraction'):
        assert getattr(ours.last_step, field) == pytest.approx(getattr(plain.last_step, field))
    assert expected.keys() == found.keys()
    for name in expected:
        assert torch.allclose(found[name], expected[name], 1e-8, 1e-12), name


@pytest.mark.slow
@pytest.mark.parametrize(
    'config', ['acdc_ecotta.py', 'camvid_severe.py', 'camvid_severe_segformer_b0.py']
)
def test_gradients_in_float32_at_full_width(config):
    image = torch.randn(1, 3, 65, 97, generator=torch.Generator().manual_seed(0))
    results = []
    for engine in (False, True):
        method = published_method(config, memory_engine=engine)
        method.lean = engine
        torch.manual_seed(3)
        for parameter in method.adaptable_parameters().values():
            parameter.data += 0.02 * torch.randn_like(parameter)
        results.append(gradients_of(method, image, _metas(image)))
    (logits, expected), (ours_logits, found) = results
    assert torch.equal(ours_logits, logits)
    for name, gradient in expected.items():
        error = (found[name].double() - gradient.double()).norm()
        assert error < 1e-5 * gradient.double().norm(), name


@pytest.mark.parametrize('smoothing', [0.0, 0.2])
@pytest.mark.parametrize('kind, meta', [('deeplab', 'identity'), ('segformer', 'tokens')])
def test_gradients_where_meta_networks_are_let_through_in_part(kind, meta, smoothing):
    image = _image(1, 3, 61, 93)
    results = []
    for engine, strength in ((False, 0.3), (True, 0.3), (True, 1.0)):
        method = _method(kind, meta, engine, regularisation_smoothing=smoothing)
        for module in method.encoder.meta_networks:
            module.strength = strength
        results.append(gradients_of(method, image, _metas(image)))
    (logits, expected), (ours_logits, found), (whole_logits, whole) = results
    assert torch.equal(ours_logits, logits) and not torch.allclose(whole_logits, logits)
    for name in expected:
        assert torch.allclose(found[name], expected[name], 1e-8, 1e-12), name
        assert not torch.allclose(whole[name], expected[name], 1e-3), name


def test_a_plan_changes_nothing_but_memory():
    image = _image(1, 3, 61, 93)
    metas = _metas(image)
    for kind, meta in (('deeplab', 'identity'), ('segformer', 'tokens')):
        fast, lean = _method(kind, meta, True), _method(kind, meta, True)
        parts = len(fast.encoder.parts)
        plan = leanest_plan(parts, in_place=False)
        lean.planner.plan_for = lambda *_, plan=plan: PlannedStep(plan, 0, 0, None)
        logits, expected = gradients_of(fast, image, metas)
        lean_logits, found = gradients_of(lean, image, metas)
        assert torch.equal(logits, lean_logits)
        for name in expected:
            assert torch.allclose(found[name], expected[name], 1e-8, 1e-12), name
        for index in range(parts):
            # Each choice by itself: what is dropped and what is kept must fit together.
            for name in ('keep_units', 'keep_middle', 'keep_output', 'keep_block'):
                single = list(fastest_plan(parts).parts)
                single[index] = replace(single[index], **{name: False})
                plan = Plan(tuple(single))
                lean.planner.plan_for = lambda *_, plan=plan: PlannedStep(plan, 0, 0, None)
                _, found = gradients_of(lean, image, metas)
                assert all(torch.allclose(found[n], expected[n], 1e-8, 1e-12) for n in expected)


@pytest.mark.slow
def test_windows_and_padding():
    image = _image(1, 3, 64, 96)
    sliding = dict(mode='slide', crop_size=(48, 48), stride=(32, 32))
    padded = _metas(image, pad_shape=(64, 96), img_padding_size=[0, 21, 0, 13])
    for test_cfg, metas, kind, meta, relative, smoothing in (
        (sliding, _metas(image), 'deeplab', 'identity', False, 0.0),
        (None, padded, 'deeplab', 'identity', False, 0.0),
        (None, padded, 'deeplab', 'identity', False, 0.2),
        (None, padded, 'deeplab', 'paper', True, 0.0),
        (None, padded, 'deeplab', 'paper', True, 0.2),
        (None, padded, 'segformer', 'tokens', True, 0.2),
        (None, padded, 'segformer', 'pointwise', False, 0.0),
        (sliding, padded, 'deeplab', 'identity', True, 0.0),
    ):
        options = dict(
            test_cfg=test_cfg,
            relative_regularisation=relative,
            regularisation_smoothing=smoothing,
        )
        plain = _method(kind, meta, False, **options)
        ours = _method(kind, meta, True, **options)
        logits, expected = gradients_of(plain, image, metas)
        ours_logits, found = gradients_of(ours, image, metas)
        assert torch.equal(ours_logits, logits)
        for name in expected:
            assert torch.allclose(found[name], expected[name], 1e-8, 1e-12), name
        # Both tell the whole frame's losses, not the last window's.
        told, ours_told = plain.last_step, ours.last_step
        for name in ('loss', 'entropy', 'regularisation', 'confident_fraction'):
            expected_loss = pytest.approx(getattr(told, name), rel=1e-9)
            assert getattr(ours_told, name) == expected_loss, name


def test_an_unknown_head_is_run_by_autograd_and_named():
    image = _image(1, 3, 61, 93)
    metas, results = _metas(image), []
    for engine in (False, True):
        method = _method('deeplab', 'identity', engine)

        class OwnHead(type(method.segmentor.decode_head)):
            """A subclass may compute something else."""

        method.segmentor.decode_head.__class__ = OwnHead
        if engine:
            method.engine = MemoryEngine(method.segmentor)
            assert method.engine.fallbacks() == ['decode head (OwnHead)']
        results.append(gradients_of(method, image, metas))
    (logits, expected), (ours_logits, found) = results
    assert torch.equal(ours_logits, logits)
    assert all(torch.allclose(found[name], expected[name], 1e-8, 1e-12) for name in expected)


def test_budgets_are_for_the_engine():
    with pytest.raises(ValueError, match="such as '600MB'"):
        _method('deeplab', 'paper', True, memory_budget='lots')
    method = _method('deeplab', 'paper', True, memory_budget='1KB')
    image = torch.randn(1, 3, 61, 93, dtype=torch.float64)
    with pytest.raises(ValueError, match='the smallest that can is'):
        method.adapt(image, _metas(image))
