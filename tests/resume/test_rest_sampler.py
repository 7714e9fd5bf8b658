"""The rest of a stream."""

from ecotta_seg.resume.rest_sampler import RestSampler


def test_rest_of_a_sampler():
    seen = []
    rest = RestSampler(range(5), 2, lambda: seen.append(1))
    assert len(rest) == 3 and seen == []
    assert list(rest) == [2, 3, 4] and seen == [1]
    assert list(RestSampler(range(5), 9)) == [] and len(RestSampler(range(5), 9)) == 0
