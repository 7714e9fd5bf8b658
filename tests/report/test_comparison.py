"""Comparisons: their numbers, their intervals, and the runs that they refuse."""

import io
import re
from types import SimpleNamespace

import pytest
import torch
from rich.console import Console

from ecotta_seg.evaluation.class_areas import areas_of
from ecotta_seg.evaluation.paired_bootstrap import paired_bootstrap
from ecotta_seg.evaluation.results import save_results
from ecotta_seg.report import compare_runs, print_comparison, write_comparison
from ecotta_seg.report.run_file import write_run_file
from tests.report.html_page import Page

DRAWS = 50


@pytest.fixture(scope='module')
def three(tmp_path_factory):
    from tests.report.conftest import MadeRun

    folder = tmp_path_factory.mktemp('runs')
    runs = {
        'first': MadeRun(0, wrong=0.3),
        # The data lies in another place there.
        'better': MadeRun(1, wrong=0.1, rounds=3, root='mnt/elsewhere'),
        'worse': MadeRun(2, wrong=0.6),
    }
    folders = [
        run.write(folder / name, areas=True, record={'seed': number})
        for number, (name, run) in enumerate(runs.items())
    ]
    comparison = compare_runs(folders, DRAWS)
    page = Page(write_comparison(comparison, folder / 'comparison.html').read_text())
    return SimpleNamespace(runs=runs, folders=folders, comparison=comparison, page=page)


def mean(values):
    values = list(values)
    return sum(values) / len(values)


def test_scores_are_means_over_the_rounds_that_all_have(three, names):
    table = three.page.table('mIoU in percent')
    for name, run in three.runs.items():
        rounds = run.document()['rounds'][:2]
        for c in names.conditions:
            assert table[name][c] == f'{mean(r["conditions"][c]["mIoU"] for r in rounds):.2f}'
        assert table[name]['mean'] == f'{mean(r["mIoU"] for r in rounds):.2f}'
        assert table[name]['clear day'] == '49.25' and table[name]['forgetting'] == '1.25'
    source = three.runs['first'].document()['source']
    assert table['source of first']['mean'] == f'{source["mIoU"]:.2f}'
    assert 'rounds 1 to 2' in three.page.text and 'more rounds' in three.page.text


def test_rounds_are_side_by_side(three, names):
    table = three.page.table('mIoU in percent by round')
    assert len(table) == 3 * 3
    for name, run in three.runs.items():
        for entry in run.document()['rounds']:
            for c in names.conditions:
                row = table[f'round {entry["round"]}, {c}']
                assert row[name] == f'{entry["conditions"][c]["mIoU"]:.2f}'
            assert table[f'round {entry["round"]}, mean'][name] == f'{entry["mIoU"]:.2f}'
    assert table['round 3, mean']['first'] == '–'


def areas(run, condition):
    """(2, F, 3, C) of the first two rounds."""
    counts = [run.counts(run.method[number]) for number in (1, 2)]
    return torch.stack(
        [
            torch.stack([areas_of(found[condition, f]) for f in range(run.frames)])
            for found in counts
        ]
    )


def test_differences_have_the_interval_of_the_same_frames(three, names):
    table = three.page.table('Difference to first in points')
    assert list(table) == ['better', 'worse']
    for name, row in table.items():
        found = paired_bootstrap(
            {c: areas(three.runs[name], c) for c in names.conditions},
            {c: areas(three.runs['first'], c) for c in names.conditions},
            DRAWS,
        )
        for column, entry in {**found['conditions'], 'mean': found['mean']}.items():
            text = f'{entry["difference"]:+.2f} ({entry["low"]:+.2f} to {entry["high"]:+.2f})'
            assert row[column] == text
        scores = three.page.table('mIoU in percent')
        difference = float(scores[name]['mean']) - float(scores['first']['mean'])
        assert abs(found['mean']['difference'] - difference) < 0.011


def test_without_areas_the_differences_have_no_interval(made_run, tmp_path, names):
    folders = [made_run(n).write(tmp_path / f'{n}', areas=n == 0) for n in (0, 1)]
    comparison = compare_runs(folders)
    first, other = (made_run(n).document()['mean_mIoU'] for n in (0, 1))
    (found,) = comparison.differences
    assert found['mean']['difference'] == pytest.approx(other - first)
    assert found['mean']['low'] is None
    page = Page(write_comparison(comparison, tmp_path / 'c.html').read_text())
    table = page.table('Difference to 0 in points')
    assert table['1']['mean'] == f'{other - first:+.2f}'
    assert 'There is no interval with 1: the run was made without --frame-areas' in page.text


def test_costs_and_settings(three):
    table = three.page.table('Memory and time')
    head = three.page.tables['Memory and time'][0]
    assert head[1:] == ['peak MiB', 'to inference', 'total MiB', 'seconds a frame', 'to inference']
    rows = three.page.tables['Memory and time'][1:]
    assert rows[0] == ['first', '45.0', '1.50x', '60.0', '0.250', '2.50x'] and len(table) == 3
    settings = three.page.table('Settings')
    assert [settings[name]['seed'] for name in three.runs] == ['0', '1', '2']
    assert settings['better']['rounds'] == '3'


def test_nothing_is_outside_the_page(three):
    assert three.page.loads == [] and 'script' not in three.page.tags


def test_the_screen_shows_the_same_numbers(three):
    console = Console(width=200, file=io.StringIO())
    print_comparison(three.comparison, console)
    text = console.file.getvalue()
    for title in ('mIoU in percent', 'Difference to first in points', 'Memory and time'):
        for row in three.page.table(title).values():
            assert all(cell in text for cell in row.values())


def test_names_are_as_long_as_it_takes(made_run, tmp_path):
    folders = [made_run(n).write(tmp_path / f'{n}' / 'run') for n in (0, 1)]
    assert compare_runs(folders).names == ['0/run', '1/run']


def refusal(*folders):
    with pytest.raises((ValueError, FileNotFoundError)) as caught:
        compare_runs(folders)
    assert '\n' not in str(caught.value)
    return str(caught.value)


def test_runs_that_are_not_comparable_are_refused(made_run, tmp_path, names):
    first = made_run().write(tmp_path / 'first', areas=True)

    def changed(name, run=None, **record):
        run = run or made_run(1)
        folder = run.write(tmp_path / name, areas=True)
        write_run_file(folder, run.record(**record))
        return folder

    def with_data(**data):
        return {'data': {**made_run().record()['data'], **data}}

    other_frames = {c: {'frames': 5, 'digest': 'e' * 16} for c in names.conditions}
    for name, run, record, reason in (
        ('names', None, with_data(frames=other_frames), r'the frames of \w+ differ'),
        ('count', made_run(frames=4), {}, r'scored frames of fog are \[5\] and \[4\]'),
        ('scale', made_run(side=32), {}, 'labels are at another scale'),
        ('labels', made_run(data_seed=1), {}, 'the labels differ|labels are at'),
        ('weather', None, with_data(settings={'AdverseWeather': '{"seed": 1}'}), 'AdverseWeather'),
        ('classes', None, {'classes': ['a', 'b']}, r'classes differ \(4 and 2 names\)'),
        ('metric', None, {'metric': {'mean_over': 'occurring', 'ignore_index': 255}}, 'mean_over'),
    ):
        message = refusal(first, changed(name, run, **record))
        assert re.search(reason, message), message
        assert message.startswith(f'{tmp_path / name} cannot be compared with {first}: ')
    # The names are the same, the areas of the labels tell.
    assert 'compare runs on the same frames' in message


def test_labels_that_differ_frame_by_frame_alone_are_refused(made_run, tmp_path):
    first = made_run().write(tmp_path / 'first', areas=True)
    other = made_run(1)
    for condition in {c for c, _ in other.labels}:
        # The same pixels in all, of two frames the other way round.
        a, b = (condition, 0), (condition, 1)
        other.labels[a], other.labels[b] = other.labels[b], other.labels[a]
    assert 'or their labels differ' in refusal(first, other.write(tmp_path / 'other', areas=True))


def test_runs_that_tell_too_little_are_refused(made_run, tmp_path):
    first = made_run().write(tmp_path / 'first')
    assert 'at least two work dirs' in refusal(first)
    assert 'each once' in refusal(first, tmp_path / 'x' / '..' / 'first')
    assert 'does not exist' in refusal(first, tmp_path / 'nowhere')
    old = made_run().write(tmp_path / 'old')
    (old / 'run.json').unlink()
    assert 'has no run.json' in refusal(first, old)
    died = made_run().write(tmp_path / 'died', record={'finished': None})
    assert 'has not ended' in refusal(first, died)
    blind = made_run().write(tmp_path / 'blind')
    save_results({**made_run().document(), 'mean_mIoU': None}, blind)
    assert 'has no scores' in refusal(first, blind)
    assert not list(tmp_path.glob('*.html'))
