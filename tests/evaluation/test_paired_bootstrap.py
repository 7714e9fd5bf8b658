"""Differences on the same frames and their intervals, against plain NumPy."""

import numpy as np
import pytest
import torch

from ecotta_seg.evaluation.paired_bootstrap import paired_bootstrap


def _areas(seed, rounds, frames, classes=4, hits=0.5):
    """(R, F, 3, C) int64: what a frame's areas can be, with a class that few frames have."""
    generator = np.random.default_rng(seed)
    label = np.random.default_rng(99).integers(0, 60, (1, frames, classes))
    label[:, 1:, classes - 1] = 0
    label = np.broadcast_to(label, (rounds, frames, classes))
    intersection = generator.binomial(label, hits)
    predicted = intersection + generator.integers(0, 20, label.shape)
    return torch.tensor(np.stack([intersection, predicted, label], axis=2))


def _miou(areas):
    """Of (F, 3, C): class by class."""
    found = []
    for intersection, predicted, label in areas.sum(0).T:
        if label > 0:
            found.append(100 * intersection / (predicted + label - intersection))
    return sum(found) / len(found)


def _reference(method, source, draws, level, seed):
    """The same draws one by one: each a list of frames, repeated as often as drawn."""
    drawn, plain = {}, {}
    for name in method:
        above, below = method[name].numpy(), source[name].numpy()
        frames = above.shape[1]

        def difference(chosen, above=above, below=below):
            rounds = [
                _miou(above[r][chosen]) - _miou(below[r % len(below)][chosen])
                for r in range(len(above))
            ]
            return sum(rounds) / len(rounds)

        generator = np.random.default_rng([seed, *name.encode()])
        picks = generator.integers(frames, size=(draws, frames))
        drawn[name] = [difference(chosen) for chosen in picks]
        plain[name] = difference(np.arange(frames))
    drawn['mean'] = np.mean([drawn[name] for name in method], axis=0)
    plain['mean'] = np.mean([plain[name] for name in method])
    ends = 50 * (1 - level), 50 * (1 + level)
    return {name: (plain[name], *np.percentile(drawn[name], ends)) for name in drawn}


@pytest.mark.parametrize('level', [0.95, 0.5])
def test_intervals_are_those_of_draws_one_by_one(level):
    method = {'fog': _areas(1, 3, 9, hits=0.7), 'night': _areas(2, 2, 5)}
    source = {'fog': _areas(3, 1, 9), 'night': _areas(4, 2, 5)}
    found = paired_bootstrap(method, source, draws=200, level=level, seed=5)
    expected = _reference(method, source, 200, level, 5)
    rows = {**found['conditions'], 'mean': found['mean']}
    assert list(rows) == list(expected)
    for name, row in rows.items():
        assert [row['difference'], row['low'], row['high']] == pytest.approx(expected[name])
        assert row['low'] < row['difference'] < row['high']
    assert [row['frames'] for row in rows.values()] == [9, 5, 7.0]


def test_the_draws_are_the_same_in_each_call_and_for_each_method():
    source = {'fog': _areas(3, 1, 9)}
    found = [paired_bootstrap({'fog': _areas(1, 1, 9)}, source, draws=50) for _ in range(2)]
    assert found[0] == found[1]
    other = paired_bootstrap({'fog': _areas(1, 1, 9)}, source, draws=50, seed=1)
    assert other['mean']['difference'] == found[0]['mean']['difference']
    assert other['mean']['low'] != found[0]['mean']['low']
    # The same frames of both: what does not differ has no spread.
    same = paired_bootstrap({'fog': source['fog'].repeat(3, 1, 1, 1)}, source, draws=50)['mean']
    assert (same['difference'], same['low'], same['high']) == (0, 0, 0)
    # A condition's draws do not depend on the others.
    both = paired_bootstrap(
        {'a': _areas(7, 1, 3), 'fog': _areas(1, 1, 9)}, {'a': _areas(8, 1, 3), **source}, draws=50
    )
    assert both['conditions']['fog'] == found[0]['conditions']['fog']


def test_what_cannot_be_compared_is_refused():
    areas = _areas(1, 2, 4)
    with pytest.raises(ValueError, match='same conditions'):
        paired_bootstrap({'fog': areas}, {'rain': areas})
    with pytest.raises(ValueError, match='at least one'):
        paired_bootstrap({}, {})
    for other in (areas[:, 1:], areas[:, :, :, 1:], areas.repeat(2, 1, 1, 1), areas[:, :0]):
        with pytest.raises(ValueError, match="same frames in 'fog'"):
            paired_bootstrap({'fog': areas}, {'fog': other})
    for options in (dict(draws=0), dict(level=1.0)):
        with pytest.raises(ValueError, match='at least 1 draw and a level'):
            paired_bootstrap({'fog': areas}, {'fog': areas}, **options)
    empty = areas.clone()
    empty[0, 2] = 0
    with pytest.raises(ValueError, match='no labelled pixel'):
        paired_bootstrap({'fog': empty}, {'fog': areas})
