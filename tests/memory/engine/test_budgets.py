"""Budgets against measured peaks: of both methods, of frames run whole and in sliding windows."""

from dataclasses import replace

import pytest
import torch

from ecotta_seg.memory import StorageMeter, optimizer_tensors, storage_bytes
from ecotta_seg.memory.budget.plan import BudgetError, fastest_plan, leanest_plan
from ecotta_seg.memory.budget.planned_step import PlannedStep
from ecotta_seg.memory.engine.dry_run import EngineDryRun
from ecotta_seg.memory.engine.planning import Planner
from ecotta_seg.methods import build_method
from tests.segmentors import build_segmentor, published_method

META = {
    'deeplab': dict(num_parts=2, start='identity'),
    'segformer': dict(num_parts=2, start='identity', norm='LN'),
}
MODES = {'whole': {}, 'slide': dict(mode='slide', crop_size=(48, 48), stride=(48, 40))}
TYPES = {
    'ecotta': dict(type='ecotta'),
    # With all that a step of it may take: the gate's probe, the weights of the classes, R_k over
    # the size of the features.
    'ecotta_plus': dict(
        type='ecotta_plus', shift_gate={}, class_balance=0.5, relative_regularisation=True
    ),
}
# Eight windows: the logits of the frame outweigh a window's step. Three windows: they do not.
# None of them so large that the gate's probe would make it smaller.
WIDE, NARROW = (96, 160), (48, 128)

kinds = pytest.mark.parametrize('kind', sorted(META))
modes = pytest.mark.parametrize('mode', sorted(MODES))
types = pytest.mark.parametrize('type', sorted(TYPES))


def _method(kind, mode, type, **options):
    return build_method(
        dict(
            meta_networks=dict(META[kind]),
            frozen_norm=dict(mode='drift'),
            optimizer=dict(type='SGD', lr=0.01, momentum=0.9),
            entropy_threshold=0.75,
            **TYPES[type],
            **options,
        ),
        build_segmentor(kind, True, **MODES[mode]),
    ).eval()


def _frame(*size):
    generator = torch.Generator().manual_seed(0)
    return torch.randn(1, 3, *size, generator=generator), [dict(img_shape=size, ori_shape=size)]


def _measured(method, frame):
    """The peak of a step after the first, with the optimizer's state."""
    with torch.no_grad():
        if not optimizer_tensors(method.optimizer):
            method.adapt(*frame)
        with StorageMeter() as meter:
            method.adapt(*frame)
    return meter.peak_bytes + storage_bytes(optimizer_tensors(method.optimizer))


def _stock_peak(kind, mode, frame):
    """Of mmseg's own inference, nothing of ours around it."""
    segmentor, (inputs, metas) = build_segmentor(kind, True, **MODES[mode]), frame
    run = segmentor.slide_inference if mode == 'slide' else segmentor.whole_inference
    with torch.no_grad(), StorageMeter() as meter:
        run(inputs, [dict(meta) for meta in metas])
    return meter.peak_bytes


@kinds
@modes
@types
def test_a_step_takes_what_its_plan_says(kind, mode, type):
    frame, method = _frame(*NARROW), _method(kind, mode, type)
    dry_run, parts = EngineDryRun(method, *frame), 2
    lean = leanest_plan(parts, in_place=False)
    half = replace(lean, parts=(lean.parts[0], fastest_plan(parts).parts[1]))
    peaks = {}
    for plan in (fastest_plan(parts), half, lean):
        planned = PlannedStep(plan, dry_run.peak(plan), 0, None)
        method.planner.plan_for = lambda *_, planned=planned: planned
        peaks[plan] = _measured(method, frame)
        assert planned.predicted_bytes == peaks[plan]
    assert len(set(peaks.values())) == 3 and min(peaks, key=peaks.get) == lean


@kinds
@modes
def test_a_step_on_a_padded_frame_takes_what_its_plan_says(kind, mode):
    inputs, metas = _frame(*WIDE)
    padding = dict(pad_shape=WIDE, img_padding_size=[0, 23, 0, 17])
    frame = inputs, [dict(metas[0], img_shape=(WIDE[0] - 17, WIDE[1] - 23), **padding)]
    dry_run = EngineDryRun(_method(kind, mode, 'ecotta_plus'), *frame)
    for plan in (fastest_plan(2), leanest_plan(2, in_place=False)):
        method = _method(kind, mode, 'ecotta_plus')
        planned = PlannedStep(plan, dry_run.peak(plan), 0, None)
        method.planner.plan_for = lambda *_, planned=planned: planned
        assert planned.predicted_bytes == _measured(method, frame)


@kinds
@modes
def test_a_multiple_is_of_what_mmseg_takes_in_its_mode(kind, mode):
    frame = _frame(*WIDE)
    stock = _stock_peak(kind, mode, frame)
    # Whole, a tiny model's own inference is less than any step: its logits are most of all.
    factor = 1 if mode == 'slide' else 4
    method = _method(kind, mode, 'ecotta', memory_budget=f'{factor}.0x')
    measured = _measured(method, frame)
    planned = method.planned
    assert planned.inference_bytes == pytest.approx(stock, rel=0.001)
    assert planned.budget_bytes == factor * planned.inference_bytes
    assert measured == planned.predicted_bytes <= planned.budget_bytes


def test_windows_have_a_smallest_budget_too():
    frame = _frame(*NARROW)
    with pytest.raises(BudgetError, match=r'of 100000 bytes cannot be met') as error:
        _measured(_method('segformer', 'slide', 'ecotta_plus', memory_budget=100_000), frame)
    smallest = error.value.smallest_bytes
    # The frame's logits stand while a window is run.
    assert smallest > 4 * 7 * NARROW[0] * NARROW[1]
    method = _method('segformer', 'slide', 'ecotta_plus', memory_budget=smallest)
    assert _measured(method, frame) == method.planned.predicted_bytes == smallest
    assert not method.planned.plan.update_in_place


@kinds
@modes
def test_the_probe_is_mmsegs_inference_and_takes_less(kind, mode):
    frame, method = _frame(*NARROW), _method(kind, mode, 'ecotta_plus')
    with torch.no_grad(), method.encoder.bypass():
        expected = method.segmentor.inference(frame[0], [dict(frame[1][0])])
    with StorageMeter() as meter:
        assert torch.equal(method.engine.predict_frozen(*frame), expected)
    assert meter.peak_bytes < _stock_peak(kind, mode, frame)


def test_the_probe_fits_a_budget_below_stock_inference():
    """The frame is too small for a smaller probe, and the model so wide that inference takes more
    than a step that keeps nothing."""
    frame = _frame(96, 128)
    options = dict(TYPES['ecotta_plus'], optimizer=dict(type='SGD', lr=1e-4, momentum=0.9))
    options['frozen_norm'] = dict(mode='calibrated')
    method = published_method('camvid_severe_segformer_b0.py', **options)
    dry_run = EngineDryRun(method, *frame)
    planned = Planner(method, None).smallest_by(dry_run)
    assert planned.predicted_bytes < planned.inference_bytes
    method.planner.plan_for = lambda *_: planned
    assert planned.predicted_bytes == _measured(method, frame)
