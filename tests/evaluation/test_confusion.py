"""Confusion counts against NumPy, and the sums over a stream."""

import numpy as np
import torch
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample

from ecotta_seg.evaluation import PerConditionIoU
from ecotta_seg.evaluation.class_areas import areas_of, class_areas, confusion_counts
from ecotta_seg.evaluation.confusion import OUTSIDE, LastRoundConfusion

CLASSES = ('road', 'car', 'sky')


def frame(seed, number=1, condition='fog', label=True):
    random = np.random.default_rng(seed)
    prediction = random.integers(0, 4, (7, 9))
    target = random.choice([0, 1, 2, 255], (7, 9))
    sample = SegDataSample(metainfo=dict(round=number, condition=condition))
    sample.pred_sem_seg = PixelData(data=torch.from_numpy(prediction)[None])
    if label:
        sample.gt_sem_seg = PixelData(data=torch.from_numpy(target)[None])
    return sample.to_dict(), prediction, target


def by_numpy(frames):
    counts = np.zeros((3, 4), dtype=np.int64)
    for _, prediction, target in frames:
        scored = target != 255
        np.add.at(counts, (target[scored], prediction[scored]), 1)
    return counts


def metric():
    built = PerConditionIoU()
    built.dataset_meta = dict(classes=CLASSES)
    return built


def as_array(document):
    columns = [*CLASSES, OUTSIDE]
    rows = document['pixels']
    return np.array([[rows.get(row, {}).get(name, 0) for name in columns] for row in CLASSES])


def test_counts_of_a_frame_equal_numpy():
    _, prediction, target = one = frame(0)
    counts = confusion_counts(torch.from_numpy(prediction), torch.from_numpy(target), 3)
    assert counts.tolist() == by_numpy([one]).tolist()
    areas = class_areas(torch.from_numpy(prediction), torch.from_numpy(target), 3)
    assert torch.equal(areas_of(counts), areas)


def test_only_the_last_round_of_all_conditions_is_summed():
    first = [frame(seed, 1) for seed in range(3)]
    last = [frame(5, 2), frame(6, 2, 'night'), frame(7, 2, label=False)]
    ours = metric()
    for sample, *_ in [*first, *last]:
        ours.process({}, [sample])
    ours.evaluate(6)
    assert ours.confusion['round'] == 2
    assert (as_array(ours.confusion) == by_numpy(last[:2])).all()


def test_without_a_label_there_is_no_confusion():
    ours = metric()
    ours.process({}, [frame(0, label=False)[0]])
    ours.evaluate(1)
    assert ours.confusion is None
    ours.process({}, [frame(0)[0]])
    assert ours.merged_summary(1) and ours.confusion['round'] == 1


def test_a_state_goes_on_where_it_stopped():
    frames = [frame(seed, 1 + seed // 2) for seed in range(4)]
    whole, before, after = metric(), metric(), metric()
    for sample, *_ in frames:
        whole.process({}, [sample])
    for sample, *_ in frames[:3]:
        before.process({}, [sample])
    state = before.state_dict()
    after.load_state_dict(state)
    after.process({}, [frames[3][0]])
    # What was saved is a copy.
    assert int(state['confusion']['counts'].sum()) == by_numpy(frames[2:3]).sum()
    whole.evaluate(4)
    after.evaluate(4)
    assert after.confusion == whole.confusion


def test_zeros_are_left_out_of_the_document():
    confusion = LastRoundConfusion()
    counts = torch.tensor([[5, 0, 0, 2], [0, 0, 0, 0], [0, 0, 7, 0]])
    confusion.add(3, counts)
    confusion.add(2, counts)
    assert confusion.document(CLASSES) == {
        'round': 3,
        'pixels': {'road': {'road': 5, OUTSIDE: 2}, 'sky': {'sky': 7}},
    }
