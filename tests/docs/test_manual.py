"""The manual: links, examples, and the public names that it has to describe."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([*ROOT.glob('*.md'), *(ROOT / 'docs').glob('*.md')])
_LINK = re.compile(r'\]\(([^)\s]+)\)')
_PYTHON = re.compile(r'```python\n(.*?)```', re.DOTALL)


def _anchor(heading):
    """GitHub's anchor of a heading."""
    text = re.sub(r'[`*]', '', heading.strip().lower())
    return re.sub(r'[^\w\- ]', '', text).replace(' ', '-')


def _anchors(page):
    text = re.sub(r'```.*?```', '', page.read_text(encoding='utf-8'), flags=re.DOTALL)
    return {_anchor(line.lstrip('#')) for line in text.splitlines() if line.startswith('#')}


@pytest.mark.parametrize('page', PAGES, ids=lambda page: page.name)
def test_links_lead_to_files_and_headings(page):
    for target in _LINK.findall(page.read_text(encoding='utf-8')):
        if re.match(r'https?:|mailto:', target):
            continue
        path, _, heading = target.partition('#')
        file = (page.parent / path).resolve() if path else page
        assert file.exists(), f'{page.name}: {target}'
        if heading:
            assert heading in _anchors(file), f'{page.name}: {target}'


def test_every_page_is_in_the_table_of_contents():
    index = (ROOT / 'docs' / 'index.md').read_text(encoding='utf-8')
    listed = {
        line.strip()
        for block in re.findall(r'```\{toctree\}(.*?)```', index, re.DOTALL)
        for line in block.splitlines()
        if line.strip() and not line.startswith(':')
    }
    pages = {page.stem for page in (ROOT / 'docs').glob('*.md')} - {'index'}
    assert {name for name in listed if '/' not in name} == pages


def test_the_readme_is_read_in_two_minutes():
    lines = (ROOT / 'README.md').read_text(encoding='utf-8').splitlines()
    assert len(lines) <= 130


@pytest.mark.slow
@pytest.mark.parametrize('name', ['own_method', 'own_backbone'])
def test_the_examples_run(name, tmp_path):
    text = (ROOT / 'docs' / f'{name}.md').read_text(encoding='utf-8')
    blocks = [block for block in _PYTHON.findall(text) if '_base_' not in block]
    assert blocks
    script = tmp_path / 'example.py'
    script.write_text('\n'.join(['import ecotta_seg', *blocks]), encoding='utf-8')
    run = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, cwd=ROOT)
    assert run.returncode == 0, run.stderr


@pytest.mark.slow
def test_sphinx_builds_the_manual(tmp_path):
    pytest.importorskip('sphinx', reason='the manual needs sphinx (pip install -e .[docs])')
    command = [sys.executable, '-m', 'sphinx', '-q', '-W', '--keep-going', '-b', 'html']
    run = subprocess.run(
        [*command, str(ROOT / 'docs'), str(tmp_path)], capture_output=True, text=True, cwd=ROOT
    )
    assert run.returncode == 0, run.stderr
    assert 'ContinualStream' in (tmp_path / 'api.html').read_text(encoding='utf-8')
