"""tools/report.py and tools/compare.py on real runs, one of them stopped and gone on with."""

import json
import re
import signal

import pytest

from tests.report.html_page import Page
from tests.tools.conftest import error_of, run_tool, started_tool, wait_for_a_state


def page_of(folder):
    return Page((folder / 'report.html').read_text(encoding='utf-8'))


@pytest.fixture(scope='module')
def ended(project, tmp_path_factory):
    """Two runs that have ended: one with pictures, one of another method."""
    folders = [tmp_path_factory.mktemp(name) for name in ('ecotta', 'source')]
    for folder, options in zip(
        folders, (['--report-pictures'], ['--method', 'source', '--rounds', 1])
    ):
        run = run_tool(
            'test_tta', project.config, project.checkpoint, '--work-dir', folder, '--seed', 3,
            '--frame-areas', '--device', 'cpu', *options,
        )  # fmt: skip
        assert run.returncode == 0, run.stderr
    return folders


@pytest.mark.slow
def test_a_run_ends_with_its_report(project, ended):
    folder = ended[0]
    page, document = page_of(folder), json.loads((folder / 'results.json').read_text())
    table = page.table('mIoU in percent')
    for entry in document['rounds']:
        row = table[f'ecotta, round {entry["round"]}']
        for name, scores in entry['conditions'].items():
            assert row[name] == f'{scores["mIoU"]:.2f}'
        assert row['mean'] == f'{entry["mIoU"]:.2f}'
    assert table['source']['mean'] == f'{document["source"]["mIoU"]:.2f}'
    confusion = document['confusion']
    assert confusion['method']['round'] == 2 and confusion['source']['round'] == 1
    areas = [{k: sum(r.values()) for k, r in confusion[key]['pixels'].items()} for key in confusion]
    assert areas[0] == areas[1] and sum(areas[0].values()) > 0
    assert str(project.checkpoint) in page.text and '--report-pictures' in page.text
    assert {'stream', 'classes', 'confusion', 'frames', 'costs', 'command'} <= set(page.ids)
    assert page.tags.count('figure') >= 2
    assert all(value.startswith('data:image/') for *_, value in page.loads)


def test_pictures_are_there_only_if_they_are_asked_for(ended):
    assert 'frames' not in page_of(ended[1]).ids
    assert not (ended[1] / 'report_pictures').exists()


@pytest.mark.slow
def test_the_tool_makes_the_same_report_again(ended, tmp_path):
    run = run_tool('report', ended[0], '--out', tmp_path / 'again.html')
    assert run.returncode == 0, run.stderr
    assert str(tmp_path / 'again.html') in run.stdout
    assert (tmp_path / 'again.html').read_bytes() == (ended[0] / 'report.html').read_bytes()


@pytest.mark.slow
def test_a_run_that_was_stopped_and_gone_on_with(project, ended, tmp_path):
    options = [
        project.config, project.checkpoint, '--work-dir', tmp_path, '--seed', 3, '--device', 'cpu',
        '--report-pictures', '--cfg-options', 'custom_hooks.4.interval=1',
        'custom_hooks.4.max_share=None',
    ]  # fmt: skip
    with started_tool('test_tta', *options) as process:
        wait_for_a_state(tmp_path, 120)
        process.send_signal(signal.SIGTERM)
        process.wait(60)
    assert not (tmp_path / 'report.html').exists()
    run = run_tool('report', tmp_path)
    assert run.returncode == 0, run.stderr
    stopped = page_of(tmp_path)
    done = int(re.search(r'has not ended: (\d+) of 12 frames', stopped.text)[1])
    assert 0 < done < 12 and 'mIoU in percent' in stopped.tables
    run = run_tool('test_tta', *options, '--resume')
    assert run.returncode == 0, run.stderr
    page, whole = page_of(tmp_path), page_of(ended[0])
    assert 'has not ended' not in page.text and 'these commands resumed it' in page.text
    for title in ('mIoU in percent', 'IoU by class in percent, round 2', 'source'):
        assert page.tables[title] == whole.tables[title]
    pictures = [value for tag, _, value in page.loads if tag == 'img'][1:]
    assert pictures == [value for tag, _, value in whole.loads if tag == 'img'][1:]


@pytest.mark.slow
def test_runs_are_compared(ended, tmp_path):
    run = run_tool('compare', *ended, '--out', tmp_path / 'c.html', '--draws', 20)
    assert run.returncode == 0, run.stderr
    page = Page((tmp_path / 'c.html').read_text())
    first, second = (json.loads((f / 'results.json').read_text()) for f in ended)
    (row,) = page.table(next(t for t in page.tables if t.startswith('Difference to'))).values()
    difference = second['rounds'][0]['mIoU'] - first['rounds'][0]['mIoU']
    assert row['mean'].startswith(f'{difference:+.2f} (')
    assert row['mean'].split()[0] in run.stdout and 'Memory and time' in run.stdout


@pytest.mark.slow
def test_mistakes_are_one_sentence(ended, tmp_path, project):
    assert 'does not exist' in error_of(run_tool('report', tmp_path / 'nowhere'))
    assert 'at least two work dirs' in error_of(run_tool('compare', ended[0]))
    folder = tmp_path / 'fog'
    run = run_tool(
        'test_tta', project.config, project.checkpoint, '--work-dir', folder, '--method', 'source',
        '--rounds', 1, '--conditions', 'fog', '--device', 'cpu',
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    message = error_of(run_tool('compare', ended[0], folder, '--out', tmp_path / 'c.html'))
    assert 'only one of them has frames of night' in message
    assert not (tmp_path / 'c.html').exists()
