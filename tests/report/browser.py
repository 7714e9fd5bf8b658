"""A page as a headless browser shows it: what a screen, a telephone and a printer make of it."""

import html
import json
import re
import shutil
import subprocess
from pathlib import Path

NAMES = ('chromium', 'chromium-browser', 'google-chrome', 'chrome')
BROWSER = next(filter(None, map(shutil.which, NAMES)), None)
NO_BROWSER = f'there is no headless browser here (none of {", ".join(NAMES)}): install chromium'
# The frame's width is that of the page; a browser's own window cannot be as narrow.
_WRAPPER = """<!DOCTYPE html>
<meta charset="utf-8">
<style>html, body {{ margin: 0; color-scheme: {scheme}; }} iframe {{ border: 0; display: block;
color-scheme: {scheme}; }}</style>
<iframe id="page" width="{width}" height="{height}" srcdoc="{page}"></iframe>
<pre id="found"></pre>
<script>
addEventListener('load', () => {{
  const inner = document.getElementById('page').contentWindow, doc = inner.document;
  const found = {{}};
  found.width = doc.documentElement.clientWidth;
  found.scroll = doc.documentElement.scrollWidth;
  found.height = doc.documentElement.scrollHeight;
  found.dark = inner.matchMedia('(prefers-color-scheme: dark)').matches;
  found.background = inner.getComputedStyle(doc.body).backgroundColor;
  found.colour = inner.getComputedStyle(doc.body).color;
  found.pictures = [...doc.images].map(i => [i.complete && i.naturalWidth > 0, i.clientWidth]);
  const boxed = element => element.closest('.box') !== null;
  found.wide = [...doc.querySelectorAll('main *')].filter(e => !boxed(e))
    .filter(e => e.getBoundingClientRect().right > found.width + 1).map(e => e.outerHTML);
  document.getElementById('found').textContent = JSON.stringify(found);
}});
</script>
"""


def _run(*arguments, folder):
    run = subprocess.run(
        [
            BROWSER, '--headless', '--no-sandbox', '--disable-gpu', '--hide-scrollbars',
            '--no-first-run', f'--user-data-dir={folder / "browser"}', *arguments,
        ],
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    return run.stdout


def _wrapped(page, width, height, dark, folder):
    text = _WRAPPER.format(
        scheme='dark' if dark else 'light',
        width=width,
        height=height,
        page=html.escape(Path(page).read_text(encoding='utf-8')),
    )
    path = folder / f'wrapper_{width}_{dark}.html'
    path.write_text(text, encoding='utf-8')
    return path.as_uri()


def layout(page, width, folder, dark=False):
    """What a browser lays out: widths, heights and colours of a page in so wide a window."""
    address = _wrapped(page, width, 900, dark, folder)
    shown = _run('--virtual-time-budget=10000', '--dump-dom', address, folder=folder)
    found = re.search(r'<pre id="found">(.+?)</pre>', shown, re.DOTALL)
    assert found, shown[-2000:]
    return json.loads(html.unescape(found[1]))


def screenshot(page, width, height, path, folder, dark=False):
    """Writes a PNG of a page in a window of this width."""
    address = _wrapped(page, width, height, dark, folder)
    size = f'--window-size={max(width, 600)},{height}'
    _run(size, f'--screenshot={path}', '--virtual-time-budget=10000', address, folder=folder)


def pdf(page, path, folder):
    """Prints a page into a PDF."""
    _run(
        '--no-pdf-header-footer', f'--print-to-pdf={path}', Path(page).resolve().as_uri(),
        folder=folder,
    )  # fmt: skip
