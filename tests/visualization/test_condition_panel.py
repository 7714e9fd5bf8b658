import cv2
import numpy as np
import pytest

from ecotta_seg.visualization import condition_panel

CLASSES = ('road', 'building', 'sky', 'car')
PALETTE = ((128, 64, 128), (70, 70, 70), (70, 130, 180), (0, 0, 142))


def scene(height=60, width=80):
    image = np.full((height, width, 3), (200, 120, 40), np.uint8)
    mask = np.zeros((height, width), np.int64)
    mask[: height // 2] = 2
    return image, mask


def boxes(panel, width=80, margin=12):
    """The pictures in a panel, found by the white columns between them."""
    lefts = range(margin, panel.shape[1] - width, width + margin)
    return [panel[:, left : left + width] for left in lefts]


def has(picture, colour):
    return bool((picture == np.array(colour)).all(-1).any())


def count(picture, colour):
    return int((picture == np.array(colour)).all(-1).sum())


def test_each_picture_shows_its_own_mask_in_the_palette():
    image, label = scene()
    source, adapted = np.full_like(label, 1), label.copy()
    adapted[40:, 40:] = 3
    masks = [('source', source), ('adapted', adapted), ('label', label)]
    panel = condition_panel(image, masks, CLASSES, PALETTE, title='fog', width=80)
    assert panel.dtype == np.uint8 and panel.shape[1] == 4 * (80 + 12) + 12
    # Without titles and legend, which have colours of their own.
    pictures = boxes(panel[34 + 28 : 34 + 28 + 60])
    assert has(pictures[0], (200, 120, 40)) and not has(pictures[0], PALETTE[2])
    assert count(pictures[1], PALETTE[1]) == 60 * 80
    assert count(pictures[2], PALETTE[3]) == 20 * 40
    assert count(pictures[2], PALETTE[2]) == count(pictures[3], PALETTE[2]) == 30 * 80
    assert not has(pictures[3], PALETTE[3])


def test_legend_names_the_classes_that_occur_and_no_others():
    image, label = scene()
    legend = condition_panel(image, [('label', label)], CLASSES, PALETTE, width=80)[6 + 28 + 60 :]
    assert has(legend, PALETTE[0]) and has(legend, PALETTE[2])
    assert not has(legend, PALETTE[1]) and not has(legend, PALETTE[3])


def test_ignored_pixels_are_black_and_named():
    image, label = scene()
    label[:10] = 255
    without = condition_panel(image, [('label', scene()[1])], CLASSES, PALETTE, width=80)
    panel = condition_panel(image, [('label', label)], CLASSES, PALETTE, width=80)
    assert count(boxes(panel)[1][34:94], (0, 0, 0)) == 10 * 80
    assert not has(boxes(without)[1][34:94], (0, 0, 0))


@pytest.mark.parametrize('size', [(30, 40), (61, 83), (240, 320), (1, 1)])
def test_masks_of_any_size_are_scaled_without_mixing_classes(size):
    image, _ = scene()
    mask = np.random.default_rng(0).choice([0, 3], size=size)
    panel = condition_panel(image, [('label', mask)], CLASSES, PALETTE, width=80)
    picture = boxes(panel)[1][34:94]
    known = count(picture, PALETTE[0]) + count(picture, PALETTE[3])
    assert known == picture.shape[0] * picture.shape[1] == 60 * 80


def test_legend_entries_are_evenly_spaced_and_none_is_cut_off():
    names = ('', 'i' * 20, 'W' * 20, 'cost in $', 'last')
    palette = tuple((10 * n + 100, 250, 10 * n) for n in range(5))
    image, _ = scene()
    label = np.repeat(np.arange(5), 12)[:, None] + np.zeros((60, 80), int)
    panel = condition_panel(image, [('label', label)] * 3, names, palette, width=160)
    legend = panel[6 + 28 + 120 + 12 :]
    gaps = []
    for row in range(legend.shape[0] // 26):
        letters = (legend[26 * row : 26 * row + 26] < 140).all(-1).any(0)
        marked = np.flatnonzero(letters)
        assert marked[-1] < panel.shape[1] - 1
        boxes_at = [
            np.flatnonzero((legend[26 * row : 26 * row + 26] == colour).all(-1).any(0))
            for colour in palette
        ]
        lefts = sorted(found[0] for found in boxes_at if found.size)
        for left in lefts[1:]:
            # The frame of a box is a letter's colour: look left of it.
            gaps.append(left - marked[marked < left - 4][-1])
    assert len(gaps) >= 2 and 10 < min(gaps) and max(gaps) < 36


def test_titles_are_no_formulas(tmp_path):
    image, label = scene()
    title = r'$\frac{x$ \undefined_{ 100% <b> [red]'
    panel = condition_panel(image, [(title, label)], CLASSES, PALETTE, title=title, width=80)
    assert cv2.imwrite(str(tmp_path / 'panel.png'), panel)
    assert not np.array_equal(panel, condition_panel(image, [('', label)], CLASSES, PALETTE, ' '))


def test_wrong_arrays_are_named():
    image, label = scene()
    with pytest.raises(ValueError, match=r'\(H, W, 3\) uint8 RGB, got \(60, 80\)'):
        condition_panel(image[..., 0], [], CLASSES, PALETTE)
    with pytest.raises(ValueError, match='float64'):
        condition_panel(image / 255, [], CLASSES, PALETTE)
    with pytest.raises(ValueError, match=r"'label' must be \(h, w\)"):
        condition_panel(image, [('label', label[None])], CLASSES, PALETTE)
