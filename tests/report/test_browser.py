"""The pages in a headless browser: on a telephone, on a screen, in the dark and on paper."""

import re

import pytest

from ecotta_seg.report import compare_runs, write_comparison, write_report
from tests.report import browser

pytestmark = pytest.mark.skipif(browser.BROWSER is None, reason=browser.NO_BROWSER)


@pytest.fixture(scope='module')
def pages(tmp_path_factory):
    from tests.report.conftest import MadeRun

    folder = tmp_path_factory.mktemp('pages')
    # Long names and a long command line, which have no place to break at.
    record = {'checkpoint': '/checkpoint' * 30, 'adaptation': f"adaptation = '{'x' * 300}'"}
    first = MadeRun().write(folder / ('first_' * 12), areas=True, pictures=True, record=record)
    other = MadeRun(1).write(folder / ('other_' * 12), areas=True)
    report = write_report(first)
    comparison = write_comparison(compare_runs([first, other], 20), folder / 'comparison.html')
    return {'report': report, 'comparison': comparison}


@pytest.mark.parametrize('width', [390, 1280])
@pytest.mark.parametrize('name', ['report', 'comparison'])
def test_only_the_boxes_of_tables_scroll(pages, tmp_path, name, width):
    found = browser.layout(pages[name], width, tmp_path)
    assert found['width'] == width and found['scroll'] == width
    assert found['wide'] == []
    assert all(whole and shown > 0 for whole, shown in found['pictures'])
    assert bool(found['pictures']) == (name == 'report')


@pytest.mark.parametrize('name', ['report', 'comparison'])
def test_dark_and_light_can_be_read(pages, tmp_path, name):
    for dark in (False, True):
        found = browser.layout(pages[name], 390, tmp_path, dark)
        assert found['dark'] == dark
        text, page = (_brightness(found[key]) for key in ('colour', 'background'))
        # WCAG 2: at least 7 to 1 for text (level AAA).
        contrast = (max(text, page) + 0.05) / (min(text, page) + 0.05)
        assert contrast >= 7 and (text > page) == dark


def _brightness(colour):
    """Relative luminance, 0 to 1, of a colour as a browser tells it (WCAG 2)."""
    channels = [int(part) / 255 for part in re.findall(r'\d+', colour)[:3]]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return sum(share * c for share, c in zip((0.2126, 0.7152, 0.0722), linear))


def test_it_can_be_printed(pages, tmp_path):
    browser.pdf(pages['report'], tmp_path / 'report.pdf', tmp_path)
    content = (tmp_path / 'report.pdf').read_bytes()
    assert content.startswith(b'%PDF-')
    assert 1 < len(re.findall(rb'/Type\s*/Page\b', content)) < 12
