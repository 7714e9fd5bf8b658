from pathlib import Path

import pytest
import setuptools
from jinja2 import UndefinedError

import ecotta_seg.report
from ecotta_seg.report.page import write_page

VALUES = dict(
    title='<a>&"\'', first='', notes=['line\x1b[31m', 'no text \udcff', '\u202e'],
)  # fmt: skip


def test_values_are_escaped_and_a_terminal_obeys_nothing(tmp_path, made_run):
    from ecotta_seg.report.tables import Table

    tables = dict.fromkeys(
        ('scores', 'differences', 'rounds', 'costs', 'settings'), Table('t', [''])
    )
    text = write_page(tmp_path / 'p.html', 'comparison.html', **VALUES, **tables).read_text('utf-8')
    assert '<a>' not in text and '&lt;a&gt;&amp;' in text
    assert '\x1b' not in text and r'line\x1b[31m' in text
    assert r'no text \udcff' in text and r'\u202e' in text


def test_a_value_that_is_missing_writes_no_page(tmp_path):
    with pytest.raises(UndefinedError):
        write_page(tmp_path / 'p.html', 'comparison.html', **VALUES)
    assert list(tmp_path.iterdir()) == []


def test_the_templates_are_in_the_package(monkeypatch):
    root = Path(ecotta_seg.report.__file__).parents[2]
    told = {}
    monkeypatch.chdir(root)
    monkeypatch.setattr(setuptools, 'setup', lambda **options: told.update(options))
    exec(compile((root / 'setup.py').read_text(), str(root / 'setup.py'), 'exec'),
         {'__file__': str(root / 'setup.py')})  # fmt: skip
    folder = root / 'ecotta_seg' / 'report'
    packed = {
        path for glob in told['package_data']['ecotta_seg.report'] for path in folder.glob(glob)
    }
    assert packed == set((folder / 'templates').iterdir())
    assert any(requirement.startswith('jinja2') for requirement in told['install_requires'])
