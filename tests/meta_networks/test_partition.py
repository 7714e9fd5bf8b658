"""The default split against the paper's numbers, and its laws on any encoder."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ecotta_seg.meta_networks import check_split, default_split


@pytest.mark.parametrize(('num_parts', 'split'), [(4, (3, 3, 5, 5)), (5, (2, 2, 4, 4, 4))])
def test_resnet50_is_split_as_in_the_paper(num_parts, split):
    assert default_split(16, num_parts) == split


@given(st.integers(1, 120).flatmap(lambda n: st.tuples(st.just(n), st.integers(1, n))))
def test_a_default_split_is_whole(numbers):
    num_units, num_parts = numbers
    split = default_split(num_units, num_parts)
    assert len(split) == num_parts and sum(split) == num_units and min(split) >= 1
    assert check_split(split, num_parts, num_units) == split
