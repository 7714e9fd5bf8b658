"""Options that are read from source text are those of the classes."""

import pytest

from ecotta_seg.names.method_options import check_method_options, method_options
from ecotta_seg.registry import ADAPTATION_METHODS, constructor_options
from tests.methods.test_every_method import METHODS


def test_they_are_those_of_the_classes():
    # The registry may also hold methods of other tests.
    for name in sorted({options['type'] for options in METHODS.values()}):
        cls = ADAPTATION_METHODS.get(name)
        assert sorted(method_options(name)) == sorted(constructor_options(cls)), name
    assert method_options('of_mine') is None


@pytest.mark.parametrize('name', sorted(METHODS))
def test_presets_pass(name):
    check_method_options(METHODS[name])


def test_a_misspelt_option_is_refused_and_others_are_left_alone():
    with pytest.raises(ValueError, match="'ecotta_plus' has no option 'brightnes'.*'brightness'"):
        check_method_options(dict(type='ecotta_plus', brightnes=1))
    check_method_options(dict(type='tent', views=2, reset_every=3))
    check_method_options(dict(type='of_mine', anything=1))
    check_method_options(dict(type=ADAPTATION_METHODS.get('tent'), anything=1))
    check_method_options({})
