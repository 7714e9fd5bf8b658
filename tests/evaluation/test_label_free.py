"""The estimate of mIoU without labels against NumPy."""

import numpy as np
import pytest
import torch

from ecotta_seg.evaluation.class_areas import class_areas
from ecotta_seg.evaluation.label_free import (
    ADAPTED,
    SOURCE,
    both_areas,
    clear_share,
    common_classes,
    estimated_mIoU,
    expected_areas,
    level_factor,
)

CLASSES, HEIGHT, WIDTH = 5, 6, 9


def _random(seed):
    random = torch.Generator().manual_seed(seed)
    masks = [torch.randint(0, CLASSES - 1, (HEIGHT, WIDTH), generator=random) for _ in range(2)]
    views = [
        (3 * torch.randn(CLASSES, HEIGHT, WIDTH, generator=random)).softmax(0) for _ in range(2)
    ]
    return masks, views


def _iou(mask, view, classes):
    """NumPy: mean over classes of expected intersection over expected union."""
    mask, view = mask.numpy(), view.numpy().astype(np.float64)
    found = []
    for index in classes:
        hit = view[index][mask == index].sum()
        found.append(hit / ((mask == index).sum() + view[index].sum() - hit))
    return 100 * np.mean(found)


def test_sure_probabilities_are_labels():
    (mask, label), _ = _random(0)
    sure = torch.nn.functional.one_hot(label, CLASSES).permute(2, 0, 1).float()
    assert torch.equal(expected_areas(mask, sure), class_areas(mask, label, CLASSES).double())


def test_expected_areas_are_means_over_drawn_labels():
    (mask, _), (view, _) = _random(1)
    random = torch.Generator().manual_seed(2)
    chances = view.flatten(1).T
    total = torch.zeros(3, CLASSES, dtype=torch.float64)
    for _ in range(2000):
        label = torch.multinomial(chances, 1, generator=random).reshape(HEIGHT, WIDTH)
        total += class_areas(mask, label, CLASSES)
    assert torch.allclose(total / 2000, expected_areas(mask, view), atol=0.2)


def test_the_estimate_against_numpy():
    (adapted, source), (adapted_view, source_view) = _random(3)
    areas = both_areas(adapted, source, adapted_view, source_view)
    classes = common_classes(areas)
    # The last class is nowhere in the source's mask.
    assert classes.tolist() == [True] * (CLASSES - 1) + [False]
    names, share = range(CLASSES - 1), 0.9
    mean = (adapted_view.double() + source_view.double()) / 2
    level = (_iou(adapted, mean, names) + _iou(source, mean, names)) / 2
    difference = share * _iou(adapted, adapted_view, names) - _iou(source, source_view, names)
    expected = level + difference / 2, level - difference / 2
    assert estimated_mIoU(areas, share=share) == pytest.approx(expected, abs=1e-4)


def test_sums_over_frames_are_estimated_as_one_large_frame():
    frames = [_random(seed) for seed in (4, 5)]
    summed = sum(both_areas(*masks, *views) for masks, views in frames)
    masks = [torch.cat([frame[0][i] for frame in frames], 1) for i in range(2)]
    views = [torch.cat([frame[1][i] for frame in frames], 2) for i in range(2)]
    large = both_areas(*masks, *views)
    assert torch.allclose(summed, large, atol=1e-4)
    assert estimated_mIoU(summed) == pytest.approx(estimated_mIoU(large), abs=1e-4)


def test_what_a_method_leaves_on_clear_frames_is_by_the_source():
    (adapted, source), (adapted_view, source_view) = _random(6)
    areas = both_areas(adapted, source, adapted_view, source_view)
    names = range(CLASSES - 1)
    expected = _iou(adapted, source_view, names) / _iou(source, source_view, names)
    found = clear_share(areas, common_classes(areas))
    assert found == pytest.approx(min(1, expected), abs=1e-5)
    same = both_areas(source, source, source_view, source_view)
    assert clear_share(same, common_classes(same)) == 1.0
    # A source that no view agrees with leaves nothing to compare with.
    assert clear_share(torch.zeros(2, 2, 3, CLASSES), torch.ones(CLASSES, dtype=torch.bool)) == 1.0


def test_the_level_is_between_sureness_and_agreement():
    (_, _), (own, view) = _random(9)
    mask, names = own.argmax(0), range(CLASSES)
    areas = expected_areas(mask, own), expected_areas(mask, view)
    classes = torch.ones(CLASSES, dtype=torch.bool)
    expected = np.sqrt(_iou(mask, own, names) / _iou(mask, view, names))
    assert expected > 1 and level_factor(*areas, classes) == pytest.approx(expected, abs=1e-4)
    assert level_factor(areas[1], areas[0], classes) == 1.0
    assert level_factor(areas[0], torch.zeros(3, CLASSES), classes) == 1.0
    both = both_areas(mask, mask, view, view)
    plain = estimated_mIoU(both)[0]
    assert estimated_mIoU(both, factor=1.5)[0] == pytest.approx(min(100, 1.5 * plain))


def test_equal_predictions_have_equal_estimates():
    (mask, _), (view, _) = _random(7)
    adapted, source = estimated_mIoU(both_areas(mask, mask, view, view))
    assert adapted == pytest.approx(source)
    assert 0 < adapted < 100


def test_agreement_at_another_size_decides():
    (mask, _), (view, _) = _random(8)
    agreeing = torch.nn.functional.one_hot(mask, CLASSES).permute(2, 0, 1).float()
    areas = both_areas(mask, mask, agreeing, view)
    adapted, source = estimated_mIoU(areas)
    assert adapted > source
    turned = areas.flip(0, 1)
    assert estimated_mIoU(turned) == pytest.approx((source, adapted))
    assert (ADAPTED, SOURCE) == (0, 1)


def test_nothing_seen_is_an_estimate_of_nothing():
    assert estimated_mIoU(torch.zeros(2, 2, 3, CLASSES)) == (0.0, 0.0)
