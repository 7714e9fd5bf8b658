"""Operations counted without data, against those of frames with data."""

import pytest
import torch
import torch.nn.functional as F
from torch.utils.flop_counter import FlopCounterMode

from ecotta_seg.guard import UpdateGuard
from ecotta_seg.memory.budget.without_data import without_data
from ecotta_seg.memory.operation_counter import OperationCounter
from ecotta_seg.methods import build_method
from ecotta_seg.methods.frame_costs import frame_costs
from ecotta_seg.methods.source import SourceModel
from tests.methods.test_every_method import METHODS, built, method_options
from tests.segmentors import build_segmentor

# What torch's counter leaves out: products in place, oneDNN's, and a depthwise gradient's taps.
_MORE = {
    torch.ops.aten.addmm_: lambda total, a, b, **_: 2 * a.numel() * b[-1],
    torch.ops.aten.baddbmm_: lambda total, a, b, **_: 2 * a.numel() * b[-1],
    torch.ops.aten.addcmul_: lambda total, a, b, **_: 2 * a.numel() * (len(b) == 3),
    torch.ops.mkldnn._linear_pointwise: lambda a, b, *_, **__: 2 * a.numel() * b[0],
}


def counted(run):
    """The operations of a call, by torch's own counter."""
    with FlopCounterMode(display=False, custom_mapping=_MORE) as counter:
        run()
    return counter.get_total_flops()


def _costs(method, stock, image, metas):
    return frame_costs(method, SourceModel(without_data(stock)).eval(), image, metas)


# Whose steps torch's counter counts correctly: no depthwise convolution learns.
@pytest.mark.parametrize(('name', 'kind', 'engine'), [
    ('source', 'deeplab', None),
    ('batch_norm_calibrated', 'deeplab', None),
    ('tent', 'deeplab', None),
    ('sar', 'segformer', None),
    ('law', 'deeplab', None),
    ('rdumb', 'deeplab', None),
    ('roid', 'deeplab', None),
    ('rotta', 'deeplab', None),
    ('ecotta', 'deeplab', True),
    ('ecotta', 'deeplab', False),
    ('ecotta_plus', 'deeplab', True),
    ('ecotta_plus', 'deeplab', False),
    ('ladder', 'deeplab', None),
])  # fmt: skip
def test_a_frame_with_data_takes_as_many(name, kind, engine, frames):
    (image, other, *_), metas = frames
    options = {} if engine is None else dict(memory_engine=engine)
    segmentor = build_segmentor(kind)
    method = build_method(dict(method_options(name), estimate=None, **options), segmentor).eval()
    stock = build_segmentor(kind)
    before = method.method_state()
    costs = _costs(method, stock, image, metas)
    for key, tensor in method.learned_tensors().items():
        assert torch.equal(tensor, before['tensors'][key]), key
    assert costs.inference == counted(lambda: SourceModel(stock).predict(image, metas))
    assert costs.prediction == counted(lambda: method.predict_frame(image, metas))
    step = counted(lambda: method.adapt(other, metas))
    assert costs.prediction + costs.step == step
    assert costs.step > 0 or name in ('source', 'batch_norm_calibrated')


@pytest.mark.parametrize('name', sorted(METHODS))
def test_no_step_takes_more(name, frames):
    images, metas = frames
    method = built(name, 'deeplab', build_segmentor('deeplab'))
    costs = _costs(method, build_segmentor('deeplab'), images[0], metas)
    assert costs.prediction >= costs.inference > 0
    for image in images[:2]:
        with OperationCounter() as counter:
            method.adapt(image, metas)
        assert counter.operations <= costs.prediction + costs.step


def test_what_is_around_a_step(frames):
    images, metas = frames
    options = dict(type='tent', optimizer=dict(type='SGD', lr=1e-3))
    alone = build_method(options, build_segmentor('deeplab')).eval()
    costs = _costs(alone, build_segmentor('deeplab'), images[0], metas)
    method = build_method(dict(options, estimate=True), build_segmentor('deeplab'), 2).eval()
    method.guard = UpdateGuard(check_every=5)
    more = _costs(method, build_segmentor('deeplab'), images[0], metas)
    # Tent's forward is the source's. The second view is a mirror image of the same size.
    assert more.inference == costs.inference
    assert more.prediction == 2 * costs.prediction
    # The frame is too small to be reduced for the guard.
    assert more.step == costs.step + 2 * costs.prediction / 5
    assert more.source == 2 * costs.inference
    small, of_small = F.interpolate(images[0], (30, 46)), [dict(metas[0], img_shape=(30, 46))]
    half = counted(lambda: alone.predict(small, of_small))
    assert more.estimate == more.source + 2 * half


def test_recomputed_modules_count_and_autocast_changes_nothing(frames):
    (image, *_), metas = frames
    options = dict(type='tent', optimizer=dict(type='SGD', lr=1e-3))
    stock = build_segmentor('deeplab')
    costs = {}
    for name, more in (('plain', {}), ('bf16', dict(autocast='bf16')), ('tight', {})):
        method = build_method(dict(options, **more), build_segmentor('deeplab')).eval()
        if name == 'tight':
            method.use_memory_budget('1000x')
            peak = method.planner.plan_for(image, metas).predicted_bytes
            method.use_memory_budget(int(0.9 * peak))
        costs[name] = _costs(method, stock, image, metas)
        if name == 'tight':
            step = counted(lambda: method.adapt(image, metas))  # noqa: B023
            assert method.planned.plan.modules
            assert costs[name].prediction + costs[name].step == step
    assert costs['bf16'] == costs['plain']
    assert costs['tight'].step > costs['plain'].step


def test_a_model_that_needs_data_is_refused(frames):
    (image, *_), metas = frames
    segmentor = build_segmentor('deeplab')
    method = build_method(dict(type='source'), segmentor).eval()
    forward = segmentor.decode_head.forward
    segmentor.decode_head.forward = lambda features: forward([f.cpu() for f in features])
    with pytest.raises(ValueError, match='cannot be counted .* leave out compute_budget'):
        _costs(method, segmentor, image, metas)
