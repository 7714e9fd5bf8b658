"""Paths of any kind, from environment variables and from the command line."""

import argparse

import pytest

from ecotta_seg.config.config import read_config
from ecotta_seg.config.options import Options, parse_value

PATHS = [
    "/data/o'brien", '/data/back\\slash', 'D:\\new\\data', '/data/with space', '/Straße/道路',
    '/a "quoted" name', '/data/line\nbreak', '/data/(1)/[a],b', '\\\\server\\share', '/data/\udcff',
]  # fmt: skip
OLD = """
_base_ = ['./base.py']
root = '{{$SOME_ROOT:data/acdc}}'
path = '{{ $SOME_ROOT:data/acdc }}/images'
number = {{'$SOME_NUMBER:80'}}
names = {{'$SOME_NAMES:None'}}
deep = dict(a=[dict(b=('{{$SOME_ROOT:data/acdc}}', 1))])
"""
NEW = """
from mmengine.dataset import DefaultSampler
root = '{{$SOME_ROOT:data/acdc}}'
path = '{{$SOME_ROOT:data/acdc}}/images'
deep = dict(type=DefaultSampler, a=[dict(b=('{{$SOME_ROOT:data/acdc}}', 1))])
"""


@pytest.mark.parametrize('text', [OLD, NEW])
@pytest.mark.parametrize('value', [*PATHS, None])
def test_a_variable_may_hold_any_path(tmp_path, monkeypatch, text, value):
    monkeypatch.delenv('SOME_ROOT', raising=False)
    if value is not None:
        monkeypatch.setenv('SOME_ROOT', value)
    (tmp_path / 'base.py').write_text("inherited = '{{$SOME_ROOT:data/acdc}}'\n")
    (tmp_path / 'c.py').write_text(text)
    cfg = read_config(tmp_path / 'c.py')
    expected = 'data/acdc' if value is None else value
    assert cfg.root == expected and cfg.path == f'{expected}/images'
    assert cfg.deep.a[0].b == (expected, 1)
    assert text is NEW or cfg.inherited == expected


@pytest.mark.parametrize('text', [OLD, NEW])
@pytest.mark.parametrize('rest', ['/data', "/o'brien", '/100%{a}$b'])
def test_the_home_folder_may_be_a_tilde(tmp_path, monkeypatch, text, rest):
    monkeypatch.setenv('HOME', '/home/me')
    monkeypatch.setenv('SOME_ROOT', f'~{rest}')
    (tmp_path / 'base.py').write_text('')
    (tmp_path / 'c.py').write_text(text)
    cfg = read_config(tmp_path / 'c.py')
    assert cfg.root == f'/home/me{rest}' and cfg.deep.a[0].b == (cfg.root, 1)
    assert parse_value(f'~{rest}') == cfg.root
    assert parse_value(f"'~{rest}'") == f'~{rest}'


def test_a_variable_may_be_a_number_or_a_list(tmp_path, monkeypatch):
    monkeypatch.setenv('SOME_NUMBER', '7')
    monkeypatch.setenv('SOME_NAMES', "['a', 'b']")
    (tmp_path / 'base.py').write_text('')
    (tmp_path / 'c.py').write_text(OLD)
    cfg = read_config(tmp_path / 'c.py')
    assert cfg.number == 7 and cfg.names == ['a', 'b']


def test_a_variable_that_cannot_work_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv('SOME_ROOT', "/o'brien")
    (tmp_path / 'c.py').write_text("_base_ = '{{$SOME_ROOT:.}}/base.py'\n")
    with pytest.raises(ValueError, match='variable SOME_ROOT is used in a place.*read as code'):
        read_config(tmp_path / 'c.py')


@pytest.mark.parametrize(('text', 'value'), [
    ('/my data', '/my data'), ('D:\\new\\data', 'D:\\new\\data'), ("/o'brien", "/o'brien"),
    ('/data (1)/[old]', '/data (1)/[old]'), ("'/a,b'", '/a,b'), ('"[1,2]"', '[1,2]'), ('"5"', '5'),
    ('3', 3), ('1e-3', 1e-3), ('true', True), ('None', None), ('a=b', 'a=b'), ('', ''),
    ('[1, 2]', [1, 2]), ('(1,(2, 3))', (1, (2, 3))), ('1,2', [1, 2]),
    ('[my road, sky]', ['my road', 'sky']), ('[]', []),
])  # fmt: skip
def test_values_of_options(text, value):
    found = parse_value(text)
    assert found == value and type(found) is type(value)


def test_a_path_with_a_comma_that_exists_is_one(tmp_path):
    (tmp_path / 'a,b').mkdir()
    assert parse_value(str(tmp_path / 'a,b')) == str(tmp_path / 'a,b')


def test_brackets_that_do_not_match_are_told(capsys):
    parser = argparse.ArgumentParser()
    parser.add_argument('--cfg-options', nargs='+', action=Options)
    with pytest.raises(SystemExit):
        parser.parse_args(['--cfg-options', 'root=/a(b,c'])
    assert 'brackets in' in capsys.readouterr().err
