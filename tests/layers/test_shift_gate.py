"""The shift gate's strength against its formula."""

from math import inf, nan

import pytest

from ecotta_seg.layers.shift_gate import ShiftGate


@pytest.mark.parametrize('drift, entropy', [(0.3, 1.0), (2.0, 0.5), (5.0, 2.4), (1.5, 1.0)])
def test_strength_rises_with_the_product(drift, entropy):
    gate = ShiftGate(half=1.5, exponent=4.0)
    r = drift * entropy / 1.5
    assert gate.strength(drift, entropy) == pytest.approx(r**4 / (1 + r**4), rel=1e-9)
    alone = (entropy / 1.5) ** 4
    assert gate.strength(None, entropy) == pytest.approx(alone / (1 + alone), rel=1e-9)


def test_a_half_is_let_through_at_half():
    assert ShiftGate(half=2.0).strength(4.0, 0.5) == pytest.approx(0.5)
    assert ShiftGate().strength(inf, 0.3) == 1


@pytest.mark.parametrize(
    'drift, entropy, expected',
    [(nan, 0.3, 0), (0.3, nan, 0), (0.0, 0.3, 0), (0.3, 0.0, 0), (1e-300, 1.0, 0), (inf, 0.0, 0)],
)
def test_broken_and_extreme_frames(drift, entropy, expected):
    assert ShiftGate().strength(drift, entropy) == expected


def test_bounds_hold_where_powers_overflow():
    gate = ShiftGate(exponent=200.0)
    assert gate.strength(1e300, 1e3) == pytest.approx(1)
    assert gate.strength(1e-12, 1e-12) == 0


@pytest.mark.parametrize('name', ['half', 'exponent'])
@pytest.mark.parametrize('value', [0.0, -1.0, nan])
def test_options_out_of_range_are_refused(name, value):
    with pytest.raises(ValueError, match='above 0'):
        ShiftGate.from_options({name: value})


def test_an_unknown_option_is_refused():
    with pytest.raises(ValueError, match='hafl'):
        ShiftGate.from_options(dict(hafl=1.0))
