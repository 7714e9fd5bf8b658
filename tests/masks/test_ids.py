"""Ids and colours in files, against mmseg's own tables."""

import numpy as np
import pytest
from mmseg.datasets import CityscapesDataset

from ecotta_seg.masks import MaskEncoder, label_ids_of

META = CityscapesDataset.METAINFO
MASK = np.array([[0, 10, 18], [255, 13, 19]])


def test_label_ids_are_those_that_cityscapes_evaluates():
    # cityscapesscripts/helpers/labels.py: these ids have no train id, all others up to 33 have.
    left_out = {*range(7), 9, 10, 14, 15, 16, 18, 29, 30}
    assert label_ids_of(META['classes']) == [i for i in range(34) if i not in left_out]
    assert label_ids_of(['Traffic_Light', 'car']) == [19, 26]
    with pytest.raises(ValueError, match='no class lane'):
        label_ids_of(['road', 'lane'])


def test_each_format():
    train = MaskEncoder('train_ids', META['classes']).encode(MASK)
    assert train.dtype == np.uint8 and train.tolist() == [[0, 10, 18], [255, 13, 255]]
    label = MaskEncoder('label_ids', META['classes']).encode(MASK)
    assert label.tolist() == [[7, 23, 33], [0, 26, 0]]
    colours = MaskEncoder('colours', META['classes'], META['palette']).encode(MASK)
    assert colours.shape == (2, 3, 3)
    assert colours[0, 1, ::-1].tolist() == META['palette'][10]
    assert not colours[1, 0].any() and not colours[1, 2].any()


def test_what_a_data_set_does_not_have_is_refused():
    with pytest.raises(ValueError, match='expected one of train_ids, label_ids, colours'):
        MaskEncoder('ids', META['classes'])
    with pytest.raises(ValueError, match='need a palette'):
        MaskEncoder('colours', META['classes'], None)
    with pytest.raises(ValueError, match='up to 255 classes'):
        MaskEncoder('train_ids', [str(number) for number in range(256)])
