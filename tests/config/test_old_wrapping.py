"""RDumb and LAW around another method, as earlier versions wrote them, become its options."""

import warnings

import pytest
from mmengine.config import Config

from ecotta_seg.config.old_keys import rename_old_keys
from ecotta_seg.config.old_wrapping import without_wrapping
from ecotta_seg.methods import build_method
from ecotta_seg.names.old_names import OldNameWarning
from tests.segmentors import build_segmentor

TENT = dict(type='tent', optimizer=dict(type='SGD', lr=1e-2))


@pytest.mark.parametrize(('old', 'current'), [
    (dict(type='rdumb', method=TENT), dict(TENT, reset_every=1000)),
    (dict(type='rdumb', method=TENT, every=3), dict(TENT, reset_every=3)),
    (dict(type='law', method=TENT), dict(TENT, layer_weights=dict(exponent=1.0))),
    (
        dict(type='law', exponent=0.5, method=dict(type='rdumb', method=TENT, every=2)),
        dict(TENT, reset_every=2, layer_weights=dict(exponent=0.5)),
    ),
    (
        dict(type='rdumb', method=dict(TENT, autocast=None, estimate=True), autocast='bf16'),
        dict(TENT, autocast='bf16', estimate=True, reset_every=1000),
    ),
])  # fmt: skip
def test_the_old_form_is_read_with_a_warning(old, current):
    with pytest.warns(OldNameWarning, match="`type='(rdumb|law)', method=.*is now called"):
        assert without_wrapping(old) == current
    cfg = Config(dict(adaptation=old))
    with pytest.warns(OldNameWarning):
        rename_old_keys(cfg)
    assert cfg.adaptation.to_dict() == current
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        rename_old_keys(cfg)
        assert without_wrapping(current) == current


def test_a_method_is_built_from_the_old_form():
    old = dict(type='law', method=dict(type='rdumb', method=TENT, every=7), exponent=0.5)
    with pytest.warns(OldNameWarning):
        method = build_method(old, build_segmentor('deeplab'))
    assert type(method).__name__ == 'Tent'
    assert method.parts['reset_every'].every == 7 and method.layer_weights.exponent == 0.5


@pytest.mark.parametrize(('old', 'words'), [
    (dict(type='rdumb'), r'no `method`: write dict\(type=\.\.\., reset_every=1000\)'),
    (dict(type='rdumb', method=TENT, views=2), "the option 'views'"),
    (dict(type='law', method=TENT, every=2), "the option 'every'"),
    (dict(type='law', method=dict(type='law', method=TENT)), 'expected one law'),
    (dict(type='rdumb', method=dict(type='rdumb', method=TENT)), 'expected one rdumb'),
])  # fmt: skip
@pytest.mark.filterwarnings('ignore::ecotta_seg.names.old_names.OldNameWarning')
def test_a_wrong_old_form_is_refused_with_the_current_one(old, words):
    with pytest.raises(ValueError, match=words):
        without_wrapping(old)
