"""Classes of models and data sets matched by name, or refused."""

import pytest

from ecotta_seg.names.class_names import NO_CLASS, match_classes, names_in_checkpoint

DATA = ['road', 'traffic light', 'car', 'sky']


@pytest.mark.parametrize(('names', 'expected'), [
    (None, None),
    (DATA, None),
    (['Road', 'traffic_light', 'CAR', 'sky'], None),
    (['car', 'sky', 'Traffic-Light', 'road'], [2, 3, 1, 0]),
    (['car', 'road'], [2, 0]),
    (['sky', 'tree', 'road', 'car', 'traffic light'], [3, NO_CLASS, 0, 2, 1]),
])  # fmt: skip
def test_names_are_matched(names, expected):
    outputs = len(names) if names else len(DATA)
    assert match_classes(outputs, names, DATA) == expected


@pytest.mark.parametrize(('outputs', 'names', 'text'), [
    (3, None, 'the model has 3 classes and the data set 4, and the checkpoint does not name'),
    (3, DATA, 'the model has 3 classes, but 4 names are given'),
    (4, ['road', 'lamp', 'car', 'sky'], 'the model alone has lamp, the data set alone traffic'),
    (4, list('abcd'), 'the model alone has a, b, c, d, the data set alone road'),
    (4, ['road', 'road', 'car', 'sky'], 'cannot be matched.*some name occurs twice'),
    (2, ['road', 'tree'], 'the model alone has tree'),
])  # fmt: skip
def test_uncertain_names_are_refused(outputs, names, text):
    with pytest.raises(ValueError, match=text):
        match_classes(outputs, names, DATA)


@pytest.mark.parametrize(('meta', 'expected'), [
    ({'dataset_meta': {'classes': ('a', 'b')}}, ['a', 'b']),
    ({'CLASSES': ['a'], 'PALETTE': None}, ['a']),
    ({'dataset_meta': {'CLASSES': ('a', 'b'), 'PALETTE': None}}, ['a', 'b']),
    ({'dataset_meta': {'palette': None}, 'CLASSES': ['a']}, ['a']),
    ({}, None), (None, None), ({'dataset_meta': None}, None), ({'dataset_meta': {}}, None),
])  # fmt: skip
def test_names_of_new_and_old_checkpoints(meta, expected):
    assert names_in_checkpoint(meta) == expected
