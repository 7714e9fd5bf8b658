from pathlib import PurePath

from hypothesis import given
from hypothesis import strategies as st

from ecotta_seg.visualization import safe_file_name


@given(st.text())
def test_any_name_is_one_plain_part_of_a_path(name):
    safe = safe_file_name(name)
    assert safe and len(safe) <= 90
    assert PurePath(safe).parts == (safe,) and safe not in ('.', '..')
    assert safe.isascii() and safe.isprintable() and not set(safe) & set('/\\:*?"<>|')


@given(st.lists(st.text(max_size=200), unique=True, max_size=6))
def test_different_names_stay_different(names):
    assert len({safe_file_name(name) for name in names}) == len(names)


def test_examples():
    assert safe_file_name('Seq05VD_f00030') == 'Seq05VD_f00030'
    assert '/' not in safe_file_name('../../etc/passwd')
    assert safe_file_name('a/b') != safe_file_name('a_b')
    assert not safe_file_name('.hidden').startswith('.')
    assert len(safe_file_name('x' * 5000)) < 100
    assert safe_file_name('\udcff')
