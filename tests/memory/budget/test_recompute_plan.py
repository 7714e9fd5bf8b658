"""Budgets of any network: kept, or refused with the least that can be had."""

import random

import mmseg.models.decode_heads.point_head as point_head
import pytest
import torch

from ecotta_seg.memory import StorageMeter
from ecotta_seg.memory.budget.dry_run import DryRun, ModuleCost
from ecotta_seg.memory.budget.plan import BudgetError
from ecotta_seg.memory.budget.recompute_plan import RecomputePlanner, choose_modules, cut
from ecotta_seg.methods import build_method
from tests.memory.lean.test_methods import METAS, method_of
from tests.zoo import ZOO, build, point_sample


@pytest.fixture(autouse=True)
def _point_sample(monkeypatch):
    monkeypatch.setattr(point_head, 'point_sample', point_sample)


def _frame(height=64, width=96):
    return torch.randn(1, 3, height, width, generator=torch.Generator().manual_seed(1))


def _metas(image):
    size = tuple(image.shape[2:])
    return [dict(img_shape=size, ori_shape=size)]


def _peak(method, image):
    metas = _metas(image)
    method.adapt(image, metas)
    state = sum(
        tensor.numel() * tensor.element_size()
        for states in method.optimizer.state.values()
        for tensor in states.values()
        if isinstance(tensor, torch.Tensor)
    )
    with StorageMeter() as meter:
        method.adapt(image, metas)
    return meter.peak_bytes + state


def _least(method, image):
    try:
        choose_modules(*_of(DryRun(method, image, _metas(image))), 1)
    except BudgetError as error:
        return error.smallest_bytes


def _of(run):
    return run.peak, run.costs


def _cells():
    """Random models, methods and sizes."""
    draw = random.Random(0)
    names = ['tent', 'eata', 'sar', 'cotta', 'ecotta', 'ecotta_plus', 'ladder']
    # A frame of its own size alone, no norm, or a UNet's many rows.
    models = [m for m in sorted(ZOO) if m not in ('tokens', 'beit', 'segmenter')]
    for number in range(12):
        model, size = draw.choice(models), draw.choice([(64, 96), (96, 64), (128, 128)])
        yield pytest.param(model, draw.choice(names), size, draw.random(), id=f'{number}-{model}')
    yield pytest.param('swin', 'becotta', (64, 96), 0.3, id='becotta')


@pytest.mark.slow
@pytest.mark.parametrize(('model', 'name', 'size', 'share'), list(_cells()))
def test_a_budget_is_kept_or_refused(model, name, size, share):
    image = _frame(*size)
    method = method_of(name, model, torch.float32)
    whole = DryRun(method, image, _metas(image)).peak()
    least = _least(method, image)
    assert least <= whole
    budget = int(least + share * (whole - least))
    method.use_memory_budget(budget)
    assert _peak(method, image) <= budget
    assert method.planned.predicted_bytes <= budget
    if budget < whole:
        assert method.planned.plan.modules
    method.planner = RecomputePlanner(method, least - 1)
    with pytest.raises(BudgetError, match=f'smallest that can is {least} bytes'):
        method.adapt(image, _metas(image))


@pytest.mark.slow
@pytest.mark.parametrize('model', ['swin', 'bisenet_v1', 'ddrnet', 'segnext', 'fpn', 'pointrend'])
@pytest.mark.parametrize('name', ['tent', 'ecotta_plus'])
def test_a_step_within_a_budget_is_the_plain_step(model, name):
    results = []
    for plain in (True, False):
        method = method_of(name, model, torch.float64)
        method.lean = not plain
        if not plain:
            least = _least(method, _frame().double())
            method.use_memory_budget(least)
        torch.manual_seed(2)
        logits = [method.adapt(_frame().double() * scale, METAS) for scale in (1, 0.5)]
        results.append((logits, method.learned_tensors()))
    assert method.planned.plan.modules
    for ours, expected in zip(results[1][0], results[0][0]):
        assert torch.allclose(ours, expected, 1e-8, 1e-9)
    for key, tensor in results[1][1].items():
        assert torch.allclose(tensor, results[0][1][key], 1e-8, 1e-10), key


@pytest.mark.parametrize('budget', ['1.0x', '600MB'])
def test_times_of_inference_and_bytes(budget):
    method, image = method_of('tent', 'swin', torch.float32), _frame()
    method.use_memory_budget(budget)
    if budget == '600MB':
        method.adapt(image, METAS)
        assert method.planned.plan.describe() == 'no module is recomputed'
        assert method.planned.budget_bytes == 600 * 10**6
        return
    # On so small a frame the parameters' gradients and the optimizer's state are more than that.
    with pytest.raises(BudgetError, match='cannot be met'):
        method.adapt(image, METAS)


def test_what_has_no_budget():
    with pytest.raises(ValueError, match='expected a memory budget'):
        method_of('tent', 'swin', torch.float32).use_memory_budget('a lot')
    with pytest.raises(ValueError, match='learns by gradients.* for a memory_budget, but Source'):
        build_method(dict(type='source', memory_budget='1.0x'), build('swin'))
    options = dict(type='tent', optimizer=dict(type='SGD', lr=1e-3), memory_budget='2.0x')
    for beside in (dict(autocast='bf16'), dict(views=2)):
        with pytest.raises(ValueError, match='one view a frame'):
            build_method({**options, **beside}, build('swin'))


def test_outermost_modules_below_a_limit():
    inner = [ModuleCost('a.0', 60, 10, 5), ModuleCost('a.1', 40, 50, 5)]
    tree = [ModuleCost('a', 100, 10, 10, inner), ModuleCost('b', 30, 5, 1)]
    assert [c.name for c in cut(tree, 100)] == ['a', 'b']
    assert [c.name for c in cut(tree, 60)] == ['a.0', 'b']
    assert [c.name for c in cut(tree, 20)] == []
    tree[0].overwritten = True
    assert [c.name for c in cut(tree, 100)] == ['a.0', 'b']


def test_the_cheapest_modules_come_first():
    tree = [ModuleCost('dear', 100, 0, 1000), ModuleCost('cheap', 100, 0, 1)]
    sizes = {'dear': 100, 'cheap': 100}

    def peak(names):
        return 300 - sum(sizes[name] for name in names)

    assert choose_modules(peak, lambda: tree, 300) == []
    assert choose_modules(peak, lambda: tree, 250) == ['cheap']
    assert choose_modules(peak, lambda: tree, 100) == ['cheap', 'dear']
    with pytest.raises(BudgetError) as error:
        choose_modules(peak, lambda: tree, 99)
    assert error.value.smallest_bytes == 100
