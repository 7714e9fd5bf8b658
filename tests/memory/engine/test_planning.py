"""Predicted peaks against measured ones, and steps that leave nothing behind."""

from dataclasses import replace

import pytest
import torch

from ecotta_seg.memory import StorageMeter, optimizer_tensors, storage_bytes
from ecotta_seg.memory.budget.dry_run import DryRun
from ecotta_seg.memory.budget.plan import BudgetError, fastest_plan
from ecotta_seg.memory.budget.without_data import without_data
from ecotta_seg.memory.engine.dry_run import EngineDryRun
from ecotta_seg.memory.engine.planning import Planner
from ecotta_seg.memory.lean.autograd_ops import attention, bit_mask, pixel_entropy
from ecotta_seg.methods import build_method
from tests.segmentors import build_segmentor, published_method

META = {
    'deeplab': dict(num_parts=2, start='identity'),
    'segformer': dict(num_parts=2, start='identity', norm='LN'),
}
KINDS = sorted(META)


def _method(kind, type='ecotta', **options):
    optimizer = options.pop('optimizer', dict(type='SGD', lr=0.01, momentum=0.9))
    return build_method(
        dict(
            type=type,
            meta_networks=dict(META[kind]),
            frozen_norm=dict(mode='drift'),
            optimizer=optimizer,
            entropy_threshold=0.75,
            **options,
        ),
        build_segmentor(kind),
    ).eval()


def _frame(height=128, width=192, seed=0):
    generator = torch.Generator().manual_seed(seed)
    size = (height, width)
    return torch.randn(1, 3, *size, generator=generator), [dict(img_shape=size, ori_shape=size)]


def _step(method, frame):
    with torch.no_grad():
        return method.adapt(*frame)


def _measured(method, frame):
    """The peak of the second step, with the optimizer's state."""
    _step(method, frame)
    with StorageMeter() as meter:
        _step(method, frame)
    return meter.peak_bytes + storage_bytes(optimizer_tensors(method.optimizer))


def _fixed(method, plan):
    """Has a method run by one plan."""
    plan_for = method.planner.plan_for
    method.planner.plan_for = lambda *args: replace(plan_for(*args), plan=plan)
    return method


@pytest.mark.parametrize('type', ['ecotta', 'ecotta_plus', 'tent'])
@pytest.mark.parametrize('kind', KINDS)
def test_frames_of_many_pieces(kind, type, monkeypatch):
    """What a piece of work leaves behind stands beside the next one, and is planned with."""
    monkeypatch.setattr(pixel_entropy, 'BAND_ELEMENTS', 2**14)
    monkeypatch.setattr(attention, 'BAND_ELEMENTS', 2**12)
    monkeypatch.setattr(bit_mask, 'CHUNK', 2**12)
    frame = _frame(128, 256)
    options = dict(type=type, optimizer=dict(type='SGD', lr=0.01, momentum=0.9))
    if type == 'tent':
        method = build_method(options, build_segmentor(kind)).eval()
        predicted = DryRun(method, *frame).peak()
    else:
        method = _method(**options, kind=kind)
        predicted = EngineDryRun(method, *frame).peak(fastest_plan(2))
    assert _measured(method, frame) <= predicted


@pytest.mark.slow
@pytest.mark.parametrize('config', ['camvid_severe.py', 'camvid_severe_segformer_b0.py'])
def test_the_predicted_peak_is_the_measured_one_at_five_budgets(config):
    frame = _frame(128, 256)
    method = published_method(config)
    dry_run, planner = EngineDryRun(method, *frame), Planner(method, None)
    fastest = planner.plan_by(dry_run, None).predicted_bytes
    smallest = planner.smallest_by(dry_run).predicted_bytes
    assert smallest < fastest
    # Budgets between two plans give the lower one: of nine, five that differ.
    found = {}
    for share in range(9):
        budget = int(smallest + share / 8 * (fastest - smallest))
        planned = planner.plan_by(dry_run, budget)
        assert planned.predicted_bytes <= budget == planned.budget_bytes
        found.setdefault(planned.predicted_bytes, planned)
    assert len(found) >= 5
    assert list(found) == sorted(found)
    assert (min(found), max(found)) == (smallest, fastest)
    for place in range(5):
        planned = list(found.values())[place * (len(found) - 1) // 4]
        method.planner.plan_for = lambda *_, planned=planned: planned
        assert planned.predicted_bytes == pytest.approx(_measured(method, frame), rel=0.05)


@pytest.mark.parametrize('kind', KINDS)
def test_predicted_inference_is_that_of_the_stock_model(kind):
    frame = _frame(61, 93)
    segmentor = build_segmentor(kind)
    with torch.no_grad(), StorageMeter() as meter:
        segmentor.encode_decode(*frame)
    assert EngineDryRun(_method(kind), *frame).inference_peak() == pytest.approx(
        meter.peak_bytes, rel=0.01
    )


@pytest.mark.parametrize('optimizer', [dict(type='SGD', lr=0.1), dict(type='Adam', lr=0.1)])
def test_the_optimizers_state_is_predicted(optimizer):
    frame = _frame(64, 64)
    method = _method('deeplab', optimizer=optimizer)
    predicted = EngineDryRun(method, *frame).peak(fastest_plan(2))
    assert predicted == pytest.approx(_measured(method, frame), rel=0.05)


@pytest.mark.parametrize('kind', KINDS)
def test_a_dry_run_leaves_the_method_as_it_is(kind):
    frame = _frame(64, 96)
    method = _method(kind)
    before = {name: tensor.clone() for name, tensor in method.learned_tensors().items()}
    addresses = [tensor.data_ptr() for tensor in method.learned_tensors().values()]
    dry_run = EngineDryRun(method, *frame)
    with StorageMeter(device='cpu') as meter:
        dry_run.peak(fastest_plan(2))
        dry_run.peak(replace(fastest_plan(2), update_in_place=True))
        dry_run.inference_peak()
    # Nothing of a map's size was made: what is computed on the CPU there are lists of sizes.
    assert meter.peak_bytes < 2**16
    for name, tensor in method.learned_tensors().items():
        assert tensor.device.type == 'cpu' and torch.equal(tensor, before[name]), name
    assert [t.data_ptr() for t in method.learned_tensors().values()] == addresses
    assert not method.optimizer.state
    assert all(p.grad is None for p in method.parameters())


def test_a_copy_without_data_is_the_same_in_shape_and_kind():
    model = build_segmentor('segformer')
    model.backbone.requires_grad_(False)
    copy = without_data(model)
    found = dict(copy.state_dict())
    for name, tensor in model.state_dict().items():
        assert found[name].shape == tensor.shape and found[name].dtype == tensor.dtype
        assert found[name].device.type == 'meta' and tensor.device.type == 'cpu'
    for (name, ours), theirs in zip(copy.named_parameters(), model.parameters()):
        assert ours.requires_grad == theirs.requires_grad, name


def test_a_budget_that_is_too_small_names_the_bytes_that_are_not():
    frame = _frame(64, 64)
    with pytest.raises(ValueError, match=r'of 1000 bytes cannot be met.*is \d+ bytes') as error:
        _step(_method('deeplab', memory_budget='1kB'), frame)
    assert isinstance(error.value, BudgetError)
    smallest = error.value.smallest_bytes
    method = _method('deeplab', memory_budget=smallest)
    _step(method, frame)
    assert method.planned.predicted_bytes == method.planned.budget_bytes == smallest


def test_a_budget_is_of_one_view():
    _method('deeplab', memory_budget='1.0x', views=1)
    for extra in (dict(memory_budget='1.0x'), dict(memory_budget='600MB')):
        with pytest.raises(ValueError, match='leave out memory_budget or 2 views'):
            _method('deeplab', views=2, **extra)
    assert _method('deeplab', views=2).views == 2


def test_a_budget_does_not_go_with_layer_wise_weights():
    inner = dict(
        type='ecotta', meta_networks=dict(num_parts=2), memory_budget='1.0x',
        optimizer=dict(type='SGD', lr=0.01),
    )  # fmt: skip
    with pytest.raises(ValueError, match='leave out memory_budget or layer-wise learning weights'):
        build_method(dict(inner, layer_weights=dict()), build_segmentor('deeplab'))


@pytest.mark.parametrize('kind', KINDS)
def test_a_stream_ends_where_plain_autograd_does(kind):
    generator = torch.Generator().manual_seed(5)
    labels = torch.randint(0, 7, (10, 61, 93), generator=generator)
    scores, methods = [], []
    for engine in (True, False):
        method = _method(kind, memory_engine=engine)
        method.lean = engine
        pairs = torch.zeros(49)
        for index, label in enumerate(labels):
            predicted = _step(method, _frame(61, 93, index)).argmax(dim=1)[0]
            pairs += torch.bincount((label * 7 + predicted).flatten(), minlength=49)
        pairs = pairs.view(7, 7)
        union = pairs.sum(0) + pairs.sum(1) - pairs.diagonal()
        scores.append(100 * float((pairs.diagonal() / union).mean()))
        methods.append(method)
    assert scores[0] == pytest.approx(scores[1], abs=0.01)
    ours, plain = (method.adaptable_parameters() for method in methods)
    for name, parameter in plain.items():
        assert torch.allclose(ours[name], parameter, 1e-3, 1e-4), name
    moved = [not torch.equal(p, methods[1]._initial[name]) for name, p in plain.items()]
    assert sum(moved) > len(moved) / 2


@pytest.mark.parametrize('kind', KINDS)
def test_gradients_applied_piece_by_piece_are_sgds(kind):
    sgd = dict(type='SGD', lr=0.02, momentum=0.9, weight_decay=0.01)
    in_place, normal = _method(kind, optimizer=sgd), _method(kind, optimizer=sgd)
    # A narrow workspace, so that parameters are updated by the row.
    plan = replace(fastest_plan(2), workspace=2**9)
    piecewise = replace(plan, update_in_place=True)
    plan_for = in_place.planner.plan_for
    plans = iter([piecewise, piecewise, piecewise, plan, piecewise])
    in_place.planner.plan_for = lambda *args: replace(plan_for(*args), plan=next(plans))
    _fixed(normal, plan)
    assert type(normal.optimizer) is torch.optim.SGD
    for index in range(5):
        frame = _frame(61, 93, index)
        logits, expected = _step(in_place, frame), _step(normal, frame)
        assert torch.allclose(logits, expected, 1e-4, 1e-4)
        assert in_place.last_step.updated
        for name, parameter in normal.adaptable_parameters().items():
            ours = in_place.adaptable_parameters()[name]
            assert torch.allclose(ours, parameter, 1e-5, 1e-6), (index, name)
            momentum = in_place.optimizer.state[ours]['momentum_buffer']
            reference = normal.optimizer.state[parameter]['momentum_buffer']
            assert torch.allclose(momentum, reference, 1e-4, 1e-5), (index, name)
            assert not torch.equal(parameter, normal._initial[name]) or not reference.any()
