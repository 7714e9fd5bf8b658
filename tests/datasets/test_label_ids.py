"""Ids of other data sets against tables written down once more, and polygons against NumPy."""

import io
import json

import numpy as np
import pytest
from mmseg.datasets import CityscapesDataset
from PIL import Image

from ecotta_seg.datasets import IDDAWDataset, SHIFTDataset
from ecotta_seg.datasets.checks.frame_error import FrameError
from ecotta_seg.datasets.label_ids import (
    CITYSCAPES_IDS,
    IDD_NAMES,
    SHIFT_IDS,
    ids_in_red,
    ids_of_polygons,
)
from tests.datasets.driving_files import iddaw, shift


def test_cityscapes():
    # The one place from which mmseg's converter takes them: id -> train id.
    scored = {7: 0, 8: 1, 11: 2, 12: 3, 13: 4, 17: 5, 19: 6, 20: 7, 21: 8, 22: 9, 23: 10, 24: 11}
    scored |= {25: 12, 26: 13, 27: 14, 28: 15, 31: 16, 32: 17, 33: 18}
    assert CITYSCAPES_IDS == {number: scored.get(number, 255) for number in range(34)}


def test_shift():
    # By way of Cityscapes' own ids, as SHIFT's authors give them for the classes they evaluate.
    own = {1: 11, 2: 13, 4: 24, 5: 17, 6: 7, 7: 7, 8: 8, 9: 21, 11: 12, 12: 20, 13: 23, 18: 19}
    own[22] = 22
    expected = {
        number: CITYSCAPES_IDS[own[number]] if number in own else 255 for number in range(23)
    }
    assert SHIFT_IDS == expected and SHIFT_IDS[10] == 255  # All vehicles are one class.


def test_idd():
    classes = CityscapesDataset.METAINFO['classes']
    assert {IDD_NAMES[name] for name in classes if name != 'terrain'} == set(range(19)) - {9}
    assert IDD_NAMES['non-drivable fallback'] == 9
    assert 'terrain' not in IDD_NAMES
    ignored = [name for name, number in IDD_NAMES.items() if number == 255]
    assert len(ignored) == 21 and not set(ignored) & set(classes) and len(IDD_NAMES) == 40


def _png(array):
    stream = io.BytesIO()
    Image.fromarray(array).save(stream, 'png')
    return stream.getvalue()


@pytest.mark.parametrize('channels', [None, 3, 4])
def test_ids_are_in_the_red_channel(channels):
    ids = np.arange(12, dtype=np.uint8).reshape(3, 4)
    array = ids if channels is None else np.full((3, 4, channels), 99, np.uint8)
    if channels:
        array[..., 0] = ids
    np.testing.assert_array_equal(ids_in_red(_png(array)), ids)


def test_pictures_that_hold_no_ids():
    with pytest.raises(ValueError, match='cannot be decoded'):
        ids_in_red(b'no picture')
    with pytest.raises(ValueError, match='expected 8 bits'):
        ids_in_red(_png(np.zeros((2, 2), np.uint16)))


def _polygons(*objects, **size):
    return json.dumps({'imgHeight': 6, 'imgWidth': 10, 'objects': list(objects), **size}).encode()


def test_polygons_are_drawn_in_their_order():
    square = [[0, 0], [9, 0], [9, 5], [0, 5]]
    inner = [[2.0, 1.0], [5.0, 1.0], [5.0, 3.0], [2.0, 3.0]]
    found = ids_of_polygons(
        _polygons({'label': 'cargroup', 'polygon': square}, {'label': 'sky', 'polygon': inner})
    )
    expected = np.full((6, 10), 13, np.uint8)
    expected[1:4, 2:6] = 10
    np.testing.assert_array_equal(found, expected)
    assert (ids_of_polygons(_polygons()) == 255).all()


@pytest.mark.parametrize(
    ('content', 'words'),
    [
        (b'{', 'no JSON of polygons'),
        (b'[]', 'no JSON of polygons'),
        (b'{"imgHeight": 2, "imgWidth": 2}', 'KeyError'),
        (_polygons({'label': 'dragon', 'polygon': []}), "names 'dragon', which is no class of IDD"),
        (_polygons({'label': 'sky', 'polygon': [[1, 2, 3], [1, 2, 3]]}), 'a point that is not x'),
        (_polygons({'label': 'sky', 'polygon': 7}), 'no JSON of polygons'),
        (_polygons(imgWidth=-1), 'no JSON of polygons'),
    ],
)
def test_polygons_that_are_none(content, words):
    with pytest.raises(ValueError, match=words):
        ids_of_polygons(content)


def test_a_bad_label_is_a_sentence_with_its_path(tmp_path, pipeline):
    iddaw(tmp_path)
    options = dict(data_root=str(tmp_path), pipeline=pipeline, test_mode=True)
    dataset = IDDAWDataset('fog', **options)
    label = tmp_path / 'val/FOG/gtSeg/12/100_mask.json'
    label.write_bytes(_polygons())
    with pytest.raises(FrameError, match=r'100_mask.json: the label is 10x6 pixels but its image'):
        dataset[0]
    label.write_bytes(_polygons({'label': 'dragon', 'polygon': []}))
    with pytest.raises(FrameError, match=r"100_mask.json: the label names 'dragon'"):
        dataset[0]


def test_an_id_that_shift_does_not_have(tmp_path, pipeline):
    shift(tmp_path)
    dataset = SHIFTDataset('foggy', data_root=str(tmp_path), pipeline=pipeline, test_mode=True)
    path = tmp_path / 'images/val/front/semseg/0099-aaaa/00000000_semseg_front.png'
    path.write_bytes(_png(np.full((8, 12), 23, np.uint8)))
    with pytest.raises(FrameError, match='holds the ids 23, which are no ids of the data set'):
        dataset[0]


def test_ids_of_polygons_and_of_shift_follow_chosen_classes(tmp_path, pipeline):
    iddaw(tmp_path / 'iddaw')
    shift(tmp_path / 'shift')
    chosen = dict(pipeline=pipeline, metainfo={'classes': ('pole', 'road')})
    for dataset in (
        IDDAWDataset('fog', data_root=str(tmp_path / 'iddaw'), **chosen),
        SHIFTDataset('foggy', data_root=str(tmp_path / 'shift'), **chosen),
    ):
        label = dataset[0]['data_samples'].gt_sem_seg.data[0].numpy()
        assert label[::2, 0].tolist() == [1, 255, 0, 255]
