"""The shift gate's strength against its formula."""

from math import inf, nan

import pytest

from ecotta_seg.adaptation.shift_gate import ShiftGate


@pytest.mark.parametrize('drift, entropy', [(0.01, 0.3), (0.07, 0.05), (0.3, 0.4), (0.06, 0.2)])
def test_strength_is_the_product_of_both_rises(drift, entropy):
    gate = ShiftGate(half_drift=0.06, drift_exponent=4.0, half_entropy=0.2, entropy_exponent=2.0)
    by_drift = drift**4 / (drift**4 + 0.06**4)
    by_entropy = entropy**2 / (entropy**2 + 0.2**2)
    assert gate.strength(drift, entropy) == pytest.approx(by_drift * by_entropy, rel=1e-9)
    assert gate.strength(None, entropy) == pytest.approx(by_entropy, rel=1e-9)


def test_a_half_is_let_through_at_the_halves():
    gate = ShiftGate(half_drift=0.1, half_entropy=0.3)
    assert gate.strength(0.1, 0.3) == pytest.approx(0.25)
    assert gate.strength(inf, 0.3) == pytest.approx(0.5)


@pytest.mark.parametrize(
    'drift, entropy, expected',
    [(nan, 0.3, 0), (0.3, nan, 0), (0.0, 0.3, 0), (0.3, 0.0, 0), (1e-300, 1.0, 0)],
)
def test_broken_and_extreme_frames(drift, entropy, expected):
    assert ShiftGate().strength(drift, entropy) == expected


def test_bounds_hold_where_powers_overflow():
    gate = ShiftGate(drift_exponent=200.0, entropy_exponent=200.0)
    assert gate.strength(1e300, 1e3) == pytest.approx(1)
    assert gate.strength(1e-12, 1e-12) == 0


@pytest.mark.parametrize('name', ['half_drift', 'drift_exponent', 'half_entropy'])
@pytest.mark.parametrize('value', [0.0, -1.0, nan])
def test_options_out_of_range_are_refused(name, value):
    with pytest.raises(ValueError, match='above 0'):
        ShiftGate.from_options({name: value})


def test_an_unknown_option_is_refused():
    with pytest.raises(ValueError, match='hafl'):
        ShiftGate.from_options(dict(hafl=1.0))
