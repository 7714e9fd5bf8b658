import pytest
import torch
from mmseg.evaluation import IoUMetric

from ecotta_seg.evaluation.class_areas import class_areas, mean_iou, mean_of, scores


def test_areas_equal_a_count_by_hand():
    prediction = torch.tensor([[0, 0, 1], [1, 2, 2]])
    label = torch.tensor([[0, 1, 1], [255, 2, 0]])
    areas = class_areas(prediction, label, num_classes=4)
    assert areas.dtype == torch.int64
    #                     intersection, predicted,  labelled
    assert areas.tolist() == [[1, 1, 1, 0], [2, 1, 2, 0], [2, 2, 1, 0]]


def test_prediction_outside_the_classes_is_wrong_and_of_no_class():
    prediction = torch.tensor([[0, 3, 7, -1]])
    areas = class_areas(prediction, torch.zeros(1, 4, dtype=torch.uint8), num_classes=3)
    assert areas.tolist() == [[1, 0, 0], [1, 0, 0], [4, 0, 0]]


def test_large_areas_stay_exact():
    # float32 counts, as in mmseg, stop at 2 ** 24.
    areas = torch.full((3, 1), 2**24 + 1)
    assert scores(areas, ['road'])['aAcc'] == 100
    areas[0] -= 1
    assert scores(areas, ['road'])['aAcc'] < 100


def test_scores_leave_out_what_is_not_labelled():
    #                     right, never there, predicted only
    areas = torch.tensor([[3, 0, 0], [3, 0, 1], [4, 0, 0]])
    result = scores(areas, ['road', 'bus', 'train'])
    assert result['IoU'] == {'road': 75.0, 'bus': None, 'train': 0.0}
    assert result['mIoU'] == 75.0
    assert result['left_out'] == ['bus', 'train']
    assert mean_iou(areas, 'occurring') == 37.5
    assert scores(areas, ['road', 'bus', 'train'], 'occurring')['left_out'] == ['bus']


def test_nothing_labelled_gives_none():
    result = scores(torch.zeros(3, 2, dtype=torch.int64), ['a', 'b'])
    assert result['mIoU'] is None and result['aAcc'] is None
    assert mean_of([None, None]) is None
    assert mean_of([1.0, None, 3.0]) == 2.0


def test_sizes_and_ids_are_checked_in_one_sentence():
    with pytest.raises(ValueError, match=r'\(4, 4\).*\(2, 2\)'):
        class_areas(torch.zeros(2, 2).long(), torch.zeros(4, 4).long(), 3)
    with pytest.raises(ValueError, match=r'unknown ids \[33\]') as caught:
        class_areas(torch.zeros(1, 2).long(), torch.tensor([[33, 1]]), 19)
    assert '\n' not in str(caught.value)


@pytest.mark.parametrize('ignore_index', [0, 2, 4, 255, -100, 70000])
@pytest.mark.parametrize('dtype', [torch.int64, torch.int32])
def test_any_ignore_index_counts_as_mmseg_does(ignore_index, dtype):
    random = torch.Generator().manual_seed(1)
    prediction = torch.randint(0, 4, (7, 9), generator=random)
    label = torch.randint(0, 4, (7, 9), generator=random).to(dtype)
    label[torch.rand(7, 9, generator=random) < 0.3] = ignore_index
    expected = IoUMetric.intersect_and_union(prediction, label, 4, ignore_index)
    intersection, _, predicted, labelled = (area.long().tolist() for area in expected)
    areas = class_areas(prediction, label, 4, ignore_index)
    assert areas.tolist() == [intersection, predicted, labelled]
    label[0, 0] = 5
    with pytest.raises(ValueError, match=r'unknown ids \[5\]'):
        class_areas(prediction, label, 4, ignore_index)


def test_all_ignored_and_empty():
    nothing = torch.zeros(3, 3, dtype=torch.int64)
    ignored = torch.full((2, 2), 255, dtype=torch.uint8)
    assert torch.equal(class_areas(torch.ones(2, 2).long(), ignored, 3), nothing)
    empty = torch.zeros(0, 4, dtype=torch.int64)
    assert torch.equal(class_areas(empty, empty, 3), nothing)
