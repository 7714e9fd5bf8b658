"""The running estimate beside a method, and the source's prediction where that is better."""

from copy import deepcopy

import pytest
import torch
from mmseg.structures import SegDataSample

from ecotta_seg.evaluation.label_free import both_areas, estimated_mIoU, own_difference
from ecotta_seg.inference.views import View, view_probabilities
from ecotta_seg.methods import build_method
from ecotta_seg.methods.source_copy import part_from, shared_source
from ecotta_seg.resume.state_file import plain
from tests.methods.test_every_method import built, each_method, method_options
from tests.segmentors import NUM_CLASSES, build_segmentor

SIZE = (61, 93)
META = dict(img_shape=SIZE, ori_shape=SIZE)
TENT = dict(type='tent', optimizer=dict(type='SGD', lr=0.05))


def _data(seed):
    random = torch.Generator().manual_seed(seed)
    image = torch.randint(0, 255, (3, *SIZE), generator=random, dtype=torch.uint8)
    return dict(inputs=[image], data_samples=[SegDataSample(metainfo=dict(META))])


def _built(estimate, method=TENT, kind='deeplab'):
    method = build_method(dict(deepcopy(method), estimate=estimate), build_segmentor(kind))
    return method.eval()


def _run(method, seeds):
    torch.manual_seed(0)
    return [method.test_step(_data(seed))[0].seg_logits.data for seed in seeds]


@each_method
def test_the_source_stays_what_it_was(name, kind, frames):
    images, metas = frames
    expected = build_segmentor(kind).inference(images[5], metas).detach()
    segmentor = build_segmentor(kind)
    source = shared_source(segmentor)
    method = built(name, kind, segmentor)
    copied = part_from(source, method)
    changed = {id(t) for t in method.learned_tensors().values()}
    assert not changed & {id(p) for p in source.parameters()}
    assert copied <= sum(p.numel() * p.element_size() for p in source.parameters())
    for image in images[:3]:
        method.adapt(image, metas)
    assert torch.equal(source.predict(images[5], metas), expected)


def test_frozen_parameters_are_shared():
    segmentor = build_segmentor('deeplab')
    wanted = [p.requires_grad for p in segmentor.parameters()]
    source = shared_source(segmentor)
    assert [p.requires_grad for p in segmentor.parameters()] == wanted
    assert {id(p) for p in source.parameters()} == {id(p) for p in segmentor.parameters()}
    plus = build_method(method_options('ecotta_plus'), segmentor)
    assert part_from(source, plus) == 0


def test_the_estimate_is_of_both_models():
    method = _built(True)
    data = _data(1)
    method.test_step(data)
    fresh = build_segmentor('deeplab')
    inputs = fresh.data_preprocessor(deepcopy(data), False)['inputs']
    view = View(0.5, False)
    logits = fresh.inference(inputs, [META]).detach()

    def thin(maps):
        return maps[0, :, 2::4, 2::4]

    # After its update the method is asked for the other view.
    adapted = build_method(deepcopy(TENT), build_segmentor('deeplab')).eval()
    adapted_logits = adapted.adapt(inputs, [META])
    areas = both_areas(
        thin(adapted_logits).argmax(0), thin(logits).argmax(0),
        thin(view_probabilities(adapted.predict, inputs, [META], view)),
        thin(view_probabilities(fresh.inference, inputs, [META], view)).detach(),
    )  # fmt: skip
    record = method.last_step
    expected = estimated_mIoU(areas)
    assert (record.estimated_mIoU, record.source_estimated_mIoU) == pytest.approx(expected)
    assert torch.allclose(method.estimate.latest[0], areas)


def test_an_estimate_alone_changes_nothing():
    plain_method = build_method(deepcopy(TENT), build_segmentor('deeplab')).eval()
    expected = _run(plain_method, range(4))
    watched = _built(dict(every=2))
    for found, wanted in zip(_run(watched, range(4)), expected):
        assert torch.equal(found, wanted)
    for name, tensor in plain_method.learned_tensors().items():
        assert torch.equal(tensor, watched.learned_tensors()[name]), name


def test_every_nth_frame_is_estimated():
    method = _built(dict(every=3))
    calls = []
    predict = method.estimate.source.predict
    method.estimate.source.predict = lambda *a: (calls.append(1), predict(*a))[1]
    seen = []
    for seed in range(5):
        method.test_step(_data(seed))
        seen.append(method.estimate.latest is not None)
        assert method.last_step.estimated_mIoU is not None
    assert seen == [True, False, False, True, False]
    assert len(calls) == 2 * 2


@pytest.mark.parametrize('every', [1, 2])
def test_the_better_prediction_is_given_out(every):
    method = _built(dict(fallback=True, every=every))
    source = build_segmentor('deeplab')
    given = []
    # What the method leaves on clear frames decides here: first all, then nothing.
    for seed, share in enumerate((2.0, 2.0, 0.0, 0.0)):
        method.estimate.share = share
        data = _data(seed)
        inputs = source.data_preprocessor(deepcopy(data), False)['inputs']
        found = method.test_step(data)[0].seg_logits.data
        record = method.last_step
        assert record.source_given is (record.source_estimated_mIoU > record.estimated_mIoU)
        wanted = source.inference(inputs, [META]).detach()[0]
        assert torch.equal(found, wanted) is record.source_given
        given.append(record.source_given)
    assert given == [False, False, True, True]


def test_a_model_of_one_class_is_not_given_out():
    def collapsed(estimate):
        method = _built(estimate)
        with torch.no_grad():
            for parameter in method.adaptable_parameters().values():
                parameter.zero_()
        return method

    assert _run(collapsed(None), [0])[0].argmax(0).unique().numel() == 1
    method = collapsed(dict(fallback=True))
    method.estimate.classes = torch.ones(NUM_CLASSES, dtype=torch.bool)
    _run(method, [0])
    record = method.last_step
    assert record.source_given and record.source_estimated_mIoU > record.estimated_mIoU


def test_a_good_model_is_given_out():
    method = _built(dict(fallback=True), dict(type='source'))
    expected = build_segmentor('deeplab')
    data = _data(0)
    inputs = expected.data_preprocessor(deepcopy(data), False)['inputs']
    found = method.test_step(data)[0].seg_logits.data
    assert torch.equal(found, expected.inference(inputs, [META]).detach()[0])
    assert method.last_step.source_given is False
    assert method.last_step.estimated_mIoU == method.last_step.source_estimated_mIoU


def test_a_state_goes_on_bit_for_bit():
    whole = _built(dict(fallback=True, every=2))
    expected = _run(whole, range(6))
    first = _built(dict(fallback=True, every=2))
    _run(first, range(3))
    plain(state := first.estimate.state_dict())
    rest = _built(dict(fallback=True, every=2))
    rest.load_method_state(first.method_state())
    rest.estimate.load_state_dict(deepcopy(state))
    for found, wanted in zip(_run(rest, range(3, 6)), expected[3:]):
        assert torch.equal(found, wanted)
    assert rest.estimate.running() == whole.estimate.running()


def test_a_state_of_another_model_is_refused():
    method = _built(True)
    _run(method, [0])
    state = method.estimate.state_dict()
    with pytest.raises(ValueError, match='does not fit'):
        method.estimate.load_state_dict({**state, 'areas': torch.zeros(2, 2, 3, NUM_CLASSES + 1)})
    with pytest.raises(ValueError, match='has no'):
        method.estimate.load_state_dict({'areas': None})


def test_another_stream_leaves_the_estimate_as_it_was():
    method = _built(dict(fallback=True))
    _run(method, range(2))
    before = method.estimate.running(), method.estimate.state_dict()
    with method.adaptation_disabled():
        _run(method, range(5, 8))
        assert method.estimate.running() != before[0]
    assert method.estimate.running() == before[0]
    assert torch.equal(method.estimate.state_dict()['areas'], before[1]['areas'])


def test_calibration_finds_what_the_method_costs(frames):
    images, metas = frames
    clear = [(image, metas) for image in images[:3]]
    statistics = _built(True, dict(type='batch_norm_statistics'))
    statistics.estimate.calibrate(statistics, clear)
    assert 0 < statistics.estimate.share < 1
    assert statistics.estimate.classes.any()
    source = _built(True, dict(type='source'))
    source.estimate.calibrate(source, clear)
    assert source.estimate.share == 1
    # Nothing of the clear frames is in the stream's estimate.
    assert statistics.estimate.running() is None
    plus = _built(True, method_options('ecotta_plus'))
    before = {name: t.clone() for name, t in plus.learned_tensors().items()}
    plus.estimate.calibrate(plus, clear)
    for name, tensor in plus.learned_tensors().items():
        assert torch.equal(tensor, before[name]), name


def test_the_running_difference_is_the_mean_of_the_frames():
    method = _built(dict(decay=0.8, every=2))
    method.estimate.classes = torch.ones(NUM_CLASSES, dtype=torch.bool)
    method.estimate.share = 0.9
    found = []
    for seed in range(5):
        method.test_step(_data(seed))
        if method.estimate.latest is not None:
            found.append(own_difference(method.estimate.latest[0], method.estimate.classes, 0.9))
    assert len(found) == 3
    weights = [0.8**4, 0.8**2, 1.0]
    expected = sum(w * d for w, d in zip(weights, found)) / sum(weights)
    running = method.estimate.running()
    assert running.adapted - running.source == pytest.approx(expected)


def test_bad_frames_are_not_estimated():
    method = _built(dict(fallback=True))
    data = _data(0)
    data['data_samples'][0].set_metainfo(dict(frame_fault='noise'))
    method.test_step(data)
    assert method.estimate.latest is None and method.last_step.estimated_mIoU is None


def test_a_memory_budget_has_no_estimate():
    options = dict(method_options('ecotta_plus'), memory_budget='3x', estimate=True)
    assert build_method(options, build_segmentor('deeplab')).estimate is None


@pytest.mark.parametrize(
    'options, message',
    [
        (dict(every=0), 'every'),
        (dict(scale=1.0), 'scale'),
        (dict(decay=1.0), 'decay'),
        (dict(evry=2), "did you mean 'every'"),
        (3, 'True, False or a dictionary'),
    ],
)
def test_wrong_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        _built(options)
    assert _built(False).estimate is None
