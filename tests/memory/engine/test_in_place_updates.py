"""Updates made piece by piece while going backward, as only a small memory budget asks for."""

import pytest
import torch

from ecotta_seg.guard import UpdateGuard
from ecotta_seg.memory.budget.plan import leanest_plan
from ecotta_seg.memory.budget.planned_step import PlannedStep
from ecotta_seg.memory.engine.planning import Planner
from ecotta_seg.methods import build_method
from ecotta_seg.methods.frame_life import predict_and_learn
from tests.segmentors import build_segmentor

# Where this model's gradients, all at once, are more than a step on a small frame may take.
BUDGET = 300_000
META = [dict(img_shape=(32, 32), ori_shape=(32, 32), stream_index=3)]


def _method(type, in_place=True, **meta_networks):
    options = dict(
        type=type,
        meta_networks=dict(dict(num_parts=4, start='identity'), **meta_networks),
        frozen_norm=dict(mode='drift'),
        optimizer=dict(type='SGD', lr=0.01, momentum=0.9),
        entropy_threshold=0.9,
    )
    method = build_method(options, build_segmentor('deeplab')).eval()
    if in_place:
        lean = PlannedStep(leanest_plan(4, in_place=True), 0, 0, None)
        method.planner.plan_for = lambda *_: lean
    return method


def _frames(count):
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(1, 3, 32, 32, generator=generator) for _ in range(count)]


def _learned(method):
    return {name: p.detach().clone() for name, p in method.adaptable_parameters().items()}


def test_a_small_budget_asks_for_them():
    planner = Planner(_method('ecotta'), BUDGET)
    planned = planner.plan_for(_frames(1)[0], META)
    assert planned.plan.update_in_place and planned.predicted_bytes <= BUDGET
    assert not Planner(_method('ecotta'), None).plan_for(_frames(1)[0], META).plan.update_in_place


both = pytest.mark.parametrize('type', ['ecotta', 'ecotta_plus'])


@both
@pytest.mark.parametrize('start', ['identity', 'paper'])
def test_they_are_the_optimizers(type, start):
    ours, plain = _method(type, start=start), _method(type, False, start=start)
    for frame in _frames(4):
        logits = plain.adapt(frame, META)
        assert torch.allclose(ours.adapt(frame, META), logits, 1e-4, 1e-4)
        expected = _learned(plain)
        for name, p in _learned(ours).items():
            assert torch.allclose(p, expected[name], 1e-4, 1e-6), name
    assert ours.planned.plan.update_in_place and not plain.planned.plan.update_in_place
    assert ours.last_step.updated


@pytest.mark.parametrize('norm', ['LN', 'affine'])
def test_gradients_that_come_whole(norm):
    """Of meta networks that are run by plain autograd, which keeps the very parameters."""
    ours = _method('ecotta', norm=norm, depthwise=True)
    plain = _method('ecotta', False, norm=norm, depthwise=True)
    for frame in _frames(3):
        ours.adapt(frame, META)
        plain.adapt(frame, META)
        for name, p in _learned(plain).items():
            assert torch.allclose(_learned(ours)[name], p, 1e-4, 1e-6), name


@both
@pytest.mark.parametrize('bad', [float('nan'), 0.0])
def test_frames_that_nothing_is_learned_from_leave_no_trace(type, bad):
    method = _method(type)
    method.guard = guard = UpdateGuard(check_every=2, min_agreement=0.0, min_entropy_share=0.0)
    # Noise is not learned from.
    for frame in _frames(4):
        predict_and_learn(method, torch.nn.functional.avg_pool2d(frame, 9, 1, 4), META, guard)
    assert method.planned.plan.update_in_place and guard.take_events() == []
    learned, momenta = _learned(method), method.method_state()['optimizer']['state']
    assert any(not torch.equal(p, method._initial[n]) for n, p in learned.items())
    if bad == 0.0:
        guard.max_class_share = 0.0
    for _ in range(30):
        logits = predict_and_learn(method, torch.full((1, 3, 32, 32), bad), META, guard)
        assert not method.last_step.updated
        assert logits.isfinite().all() or bad != 0.0
    assert {event['event'] for event in guard.take_events()} == {'rollback'}
    assert all(torch.equal(p, learned[name]) for name, p in _learned(method).items())
    after = method.method_state()['optimizer']['state']
    for key, state in momenta.items():
        assert torch.equal(state['momentum_buffer'], after[key]['momentum_buffer'])


@both
def test_a_state_goes_on_bit_for_bit(type):
    method, frames = _method(type), _frames(6)
    for frame in frames[:3]:
        method.adapt(frame, META)
    fresh = _method(type)
    fresh.load_method_state(method.method_state())
    for frame in frames[3:]:
        assert torch.equal(fresh.adapt(frame, META), method.adapt(frame, META))
    assert all(torch.equal(p, _learned(method)[name]) for name, p in _learned(fresh).items())
