"""Steps without data against the same steps with data, under the same meter."""

import mmseg.models.decode_heads.point_head as point_head
import pytest
import torch

from ecotta_seg.memory import StorageMeter
from ecotta_seg.memory.budget.dry_run import DryRun
from ecotta_seg.methods import build_method
from tests.memory.lean.test_methods import METAS, METHODS, method_of
from tests.zoo import ZOO, build, point_sample

CELLS = [(model, 'ecotta_plus') for model in sorted(ZOO)]
CELLS += [(model, name) for model in ('pspnet', 'swin') for name in METHODS]
# Neither layer weights nor a bank of frames go with a memory budget.
CELLS = sorted({cell for cell in CELLS if cell[1] not in ('law', 'rotta')})


@pytest.fixture(autouse=True)
def _point_sample(monkeypatch):
    monkeypatch.setattr(point_head, 'point_sample', point_sample)


def _frame():
    return torch.randn(1, 3, 64, 96, generator=torch.Generator().manual_seed(1))


def _measured(method, image):
    """The peak of a step of which the optimizer's state is there already."""
    method.adapt(image, METAS)
    with StorageMeter() as meter:
        method.adapt(image, METAS)
    return meter.peak_bytes


@pytest.mark.slow
@pytest.mark.parametrize(('model', 'name'), CELLS)
def test_the_predicted_peak_is_the_measured_one(model, name):
    method, image = method_of(name, model, torch.float32), _frame()
    before = {key: tensor.clone() for key, tensor in method.learned_tensors().items()}
    run = DryRun(method, image, METAS)
    predicted = run.peak() - run.standing_bytes
    after = method.learned_tensors()
    assert all(torch.equal(after[key], tensor) for key, tensor in before.items())
    measured = _measured(method, image)
    # Never below; above by what norms without data give beside their result.
    assert measured <= predicted <= 1.01 * measured


@pytest.mark.parametrize('model', ['pspnet', 'swin', 'hrnet'])
def test_inference(model):
    segmentor, image = build(model), _frame()
    with torch.no_grad(), StorageMeter() as meter:
        segmentor.encode_decode(image, METAS)
    predicted = DryRun(method_of('ecotta_plus', model, torch.float32), image, METAS)
    assert predicted.inference_peak() == meter.peak_bytes
    tent = DryRun(method_of('tent', model, torch.float32), image, METAS)
    assert tent.inference_peak() == meter.peak_bytes


def test_what_each_module_keeps():
    method, image = method_of('tent', 'pspnet', torch.float32), _frame()
    run = DryRun(method, image, METAS)
    costs = run.costs()
    names = {cost.name for cost in costs}
    # mmseg calls the head's methods and never the head.
    assert 'backbone' in names and any(name.startswith('decode_head.') for name in names)
    for cost in costs:
        assert cost.kept >= sum(inner.kept for inner in cost.inside) >= 0
        assert cost.operations >= sum(inner.operations for inner in cost.inside) >= 0
    (backbone,) = (cost for cost in costs if cost.name == 'backbone')
    assert backbone.operations > 0 and len(backbone.inside) > 4
    # The hooks are gone: a later step is the plain one.
    assert run.peak() == run.peak(())


def test_meta_networks_are_not_recomputed_with_what_holds_them():
    """Their encoder hands the regulariser to the method while it runs, which it must do once."""
    run = DryRun(method_of('ecotta', 'pspnet', torch.float32), _frame(), METAS)

    def names(costs):
        return {cost.name for cost in costs} | {n for cost in costs for n in names(cost.inside)}

    found = names(run.costs())
    assert 'backbone' not in found and 'backbone.meta_networks.0' in found


@pytest.mark.parametrize('model', ['tokens'])
def test_a_step_that_cannot_run_stops_as_it_would(model):
    """Predictions of a scaled frame do not fit the grid of this model."""
    options = dict(type='cotta', optimizer=dict(type='SGD', lr=1e-3), views=6)
    method = build_method(options, build(model)).eval()
    with pytest.raises(RuntimeError, match='unflatten'):
        DryRun(method, _frame(), METAS)
