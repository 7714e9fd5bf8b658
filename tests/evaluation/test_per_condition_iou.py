import os
import socket

import numpy as np
import pytest
import torch
import torch.multiprocessing
from hypothesis import given, settings
from hypothesis import strategies as st
from mmengine.structures import PixelData
from mmseg.evaluation import IoUMetric
from mmseg.registry import METRICS
from mmseg.structures import SegDataSample

from ecotta_seg.distributed import end_launch
from ecotta_seg.evaluation import PerConditionIoU

CLASSES = ('road', 'car', 'sky', 'bus', 'person')


def frame(seed, metainfo=None, classes=5, predicted=None, size=(9, 11), label=True):
    random = torch.Generator().manual_seed(seed)
    sample = SegDataSample(metainfo=metainfo or {})
    prediction = torch.randint(0, predicted or classes, (1, *size), generator=random)
    sample.pred_sem_seg = PixelData(data=prediction)
    if label:
        target = torch.randint(0, classes, (1, *size), generator=random)
        # Mostly right, some ignored, so that the scores are far from 0 and from each other.
        target = torch.where(torch.rand(target.shape, generator=random) < 0.6, prediction, target)
        target[target >= classes] = 0
        target[torch.rand(target.shape, generator=random) < 0.1] = 255
        sample.gt_sem_seg = PixelData(data=target)
    return sample.to_dict()


def metric(**kwargs):
    built = METRICS.build(dict(type='PerConditionIoU', **kwargs))
    built.dataset_meta = dict(classes=CLASSES)
    return built


def mmseg_areas(frames):
    reference = IoUMetric()
    reference.dataset_meta = dict(classes=CLASSES)
    reference.process({}, frames)
    return reference, [sum(column).double() for column in zip(*reference.results)]


@settings(max_examples=25, deadline=None)
@given(seeds=st.lists(st.integers(0, 10**6), min_size=1, max_size=4), classes=st.integers(1, 5))
def test_equal_to_mmseg_where_predicted_classes_are_labelled(seeds, classes):
    frames = [frame(seed, classes=classes) for seed in seeds]
    reference, (intersection, union, _, labelled) = mmseg_areas(frames)
    ours = metric()
    ours.process({}, frames)
    ours.evaluate(len(frames))
    result = ours.rounds[0]['conditions']['all']
    iou = (100 * intersection / union).numpy()
    expected = {n: None if np.isnan(v) else pytest.approx(v) for n, v in zip(CLASSES, iou)}
    assert result['IoU'] == expected
    assert result['mIoU'] == pytest.approx(np.nanmean(iou), abs=1e-9)
    assert result['aAcc'] == pytest.approx(float(100 * intersection.sum() / labelled.sum()))
    # And against the figures that it reports, which are rounded to two digits.
    reported = reference.evaluate(len(frames))
    assert result['mIoU'] == pytest.approx(reported['mIoU'], abs=0.0051)
    assert result['aAcc'] == pytest.approx(reported['aAcc'], abs=0.0051)


def test_class_that_is_only_predicted_is_left_out_and_named():
    frames = [frame(seed, classes=3, predicted=5) for seed in range(3)]
    _, (intersection, union, _, labelled) = mmseg_areas(frames)
    iou = (100 * intersection / union).numpy()
    assert (iou[3:] == 0).all()  # mmseg: 0 as soon as one pixel is predicted.
    results = {}
    for mean_over in ('labelled', 'occurring'):
        ours = metric(mean_over=mean_over)
        ours.process({}, frames)
        ours.evaluate(3)
        results[mean_over] = ours.rounds[0]['conditions']['all']
        assert list(results[mean_over]['IoU'].values()) == pytest.approx(iou.tolist())
    assert results['labelled']['mIoU'] == pytest.approx(iou[:3].mean())
    assert results['labelled']['left_out'] == ['bus', 'person']
    assert results['occurring']['mIoU'] == pytest.approx(iou.mean())
    assert results['occurring']['left_out'] == []


def test_conditions_and_rounds_are_apart():
    stream = [('fog', 1, 0), ('night', 1, 1), ('fog', 2, 2), ('night', 2, 3), ('fog', 2, 4)]
    frames = [frame(s, dict(condition=c, round=r, stream_index=s)) for c, r, s in stream]
    ours = metric()
    for sample in frames:
        ours.process({}, [sample])
    flat = ours.evaluate(len(frames))
    assert [entry['round'] for entry in ours.rounds] == [1, 2]
    assert list(ours.rounds[0]['conditions']) == ['fog', 'night']
    assert ours.rounds[1]['conditions']['fog']['frames'] == 2
    _, (intersection, union, *_) = mmseg_areas([frames[2], frames[4]])
    fog = float(np.nanmean((100 * intersection / union).numpy()))
    assert flat['round2/fog/mIoU'] == pytest.approx(fog)
    second = ours.rounds[1]
    assert second['mIoU'] == pytest.approx((fog + second['conditions']['night']['mIoU']) / 2)
    assert flat['mIoU'] == ours.mean_mIoU
    assert flat['mIoU'] == pytest.approx((ours.rounds[0]['mIoU'] + second['mIoU']) / 2)
    road = [r['IoU']['road'] for r in second['conditions'].values()]
    assert second['IoU']['road'] == pytest.approx(sum(road) / 2)


def test_frames_without_label_are_counted_and_not_scored():
    ignored = frame(1)
    ignored['gt_sem_seg']['data'][:] = 255
    ours, alone = metric(), metric()
    ours.process({}, [frame(0), frame(2, label=False), ignored])
    assert ours.frame_mIoU() is None
    alone.process({}, [frame(0)])
    result = ours.summary()[0]['conditions']['all']
    assert (result['frames'], result['frames_without_label']) == (1, 2)
    assert result['mIoU'] == alone.summary()[0]['mIoU']
    nothing = metric()
    nothing.process({}, [frame(2, label=False)])
    assert nothing.evaluate(1) == {}
    assert nothing.rounds[0]['conditions']['all']['mIoU'] is None


def test_memory_does_not_grow_with_the_stream():
    def tensor_bytes(value, seen):
        if isinstance(value, torch.Tensor):
            storage = value.untyped_storage()
            seen[storage.data_ptr()] = storage.nbytes()
        elif isinstance(value, dict):
            [tensor_bytes(item, seen) for item in value.values()]
        elif isinstance(value, (list, tuple)):
            [tensor_bytes(item, seen) for item in value]
        elif hasattr(value, '__dict__'):
            tensor_bytes(vars(value), seen)
        return sum(seen.values())

    def objects(value):
        if isinstance(value, (list, tuple)):
            return 1 + sum(objects(item) for item in value)
        if isinstance(value, dict):
            return 1 + sum(objects(item) for item in value.values())
        return 1

    ours, after = metric(), {}
    for index in range(400):
        ours.process({}, [frame(index % 3, dict(condition='fog', round=1))])
        if index in (1, 399):
            after[index] = (tensor_bytes(vars(ours), {}), objects(vars(ours)))
    assert after[1] == after[399]
    assert ours.results == []


def test_running_and_frame_scores():
    ours, alone = metric(), metric()
    assert ours.frame_mIoU() is None and ours.running_mIoU() is None
    first, second = frame(0, dict(condition='fog')), frame(1, dict(condition='fog'))
    ours.process({}, [first])
    assert ours.frame_mIoU() == ours.running_mIoU()
    ours.process({}, [second])
    alone.process({}, [second])
    assert ours.frame_mIoU() == alone.summary()[0]['mIoU']
    assert ours.running_mIoU() == ours.summary()[0]['mIoU'] != ours.frame_mIoU()


def test_errors_name_the_file():
    wrong = frame(0, dict(img_path='a/b.png'))
    wrong['gt_sem_seg']['data'] = torch.zeros(1, 4, 4, dtype=torch.long)
    with pytest.raises(ValueError, match=r'^a/b.png: the label is \(4, 4\)'):
        metric().process({}, [wrong])
    unknown = frame(0)
    unknown['gt_sem_seg']['data'][0, 0, 0] = 33
    with pytest.raises(ValueError, match=r'unknown ids \[33\]'):
        metric().process({}, [unknown])
    with pytest.raises(ValueError, match='class names'):
        PerConditionIoU().process({}, [frame(0)])
    with pytest.raises(ValueError, match='mean_over'):
        metric(mean_over='all')


def test_state_goes_on_where_it_stopped(tmp_path):
    frames = [frame(s, dict(condition='fog' if s < 3 else 'rain', round=1)) for s in range(6)]
    whole, before, after = metric(), metric(), metric()
    for sample in frames:
        whole.process({}, [sample])
    for sample in frames[:4]:
        before.process({}, [sample])
    torch.save(before.state_dict(), tmp_path / 'state.pth')
    after.load_state_dict(torch.load(tmp_path / 'state.pth', weights_only=True))
    for sample in frames[4:]:
        after.process({}, [sample])
    assert after.evaluate(6) == whole.evaluate(6)
    assert after.rounds == whole.rounds
    other = metric()
    other.dataset_meta = dict(classes=('a', 'b'))
    with pytest.raises(ValueError, match='5 classes'):
        other.load_state_dict(before.state_dict())


def _rank(rank, port, size, folder):
    os.environ.update(MASTER_ADDR='127.0.0.1', MASTER_PORT=str(port))
    torch.distributed.init_process_group('gloo', rank=rank, world_size=2)
    torch.set_num_threads(1)
    ours = metric()
    # As mmengine's DefaultSampler: dealt out in turn, the first one repeated to fill up.
    indices = (list(range(size)) * 2)[: -(-size // 2) * 2][rank::2]
    for index in indices:
        ours.process({}, [frame(index, dict(condition='fog' if index < 2 else 'rain'))])
    flat = ours.evaluate(size)
    torch.save((flat, ours.rounds, ours.confusion), f'{folder}/{rank}.pth')
    end_launch()


@pytest.mark.slow
def test_two_processes_equal_one_without_the_padded_frame(tmp_path):
    with socket.socket() as free:
        free.bind(('127.0.0.1', 0))
        port = free.getsockname()[1]
    torch.multiprocessing.spawn(_rank, args=(port, 5, str(tmp_path)), nprocs=2)
    alone = metric()
    alone.process({}, [frame(i, dict(condition='fog' if i < 2 else 'rain')) for i in range(5)])
    expected = (alone.evaluate(5), alone.rounds, alone.confusion)
    assert expected[2] is not None
    for rank in range(2):
        assert torch.load(tmp_path / f'{rank}.pth', weights_only=True) == expected
