"""Numbers of runs, their means over seeds, the files and the pictures."""

import csv
import json
from dataclasses import asdict, replace

import cv2
import numpy as np
import pytest

from ecotta_seg.benchmark import (
    aggregate,
    collect_runs,
    plot_memory,
    plot_rounds,
    read_runs,
    source_of,
    summarise,
    write_report,
)
from ecotta_seg.benchmark.report import markdown
from ecotta_seg.benchmark.runs import RUN_FILE, BenchmarkRun, MethodSpec, ModelSpec, run_folder


def _record(found, **who):
    """What is read of a finished run with these results."""
    plain = dict(model='r18', method='tent', stream='continual', seed=0, asked_views=None)
    return {**plain, 'error': None, 'folder': 'x', **who, **summarise(found)}


@pytest.fixture
def records(document):
    found = [
        _record(
            document(mean + seed, peak=peak), model=model, method=method, stream=stream, seed=seed
        )
        for model in ('r18', 'b0')
        for stream in ('continual', 'ramp')
        for method, mean, peak in (('tent', 24.0, 400), ('cotta', 27.0, 900), ('a|b', 30.0, 150))
        for seed in (0, 2)
    ]  # fmt: skip
    failed = dict(model='b0', method='sar', stream='ramp', seed=0, asked_views=None, folder='x')
    return [*found, {**failed, 'error': 'no memory | left'}]


def test_numbers_of_a_run(document):
    numbers = summarise(document(30.0, rounds=5, source=28.5))
    assert numbers['rounds'] == [29.0, 29.5, 30.0, 30.5, 31.0]
    assert numbers['conditions']['fog'] == [30.0, 30.5, 31.0, 31.5, 32.0]
    assert numbers['last_minus_first'] == 2.0 and numbers['mean'] == 30.0
    # Round 1: 30 and 28 against 29.5 and 27.5.
    assert numbers['worst_against_source'] == pytest.approx(0.5)
    assert numbers['forgetting'] == 2.0 and numbers['clear_after'] == 48.0
    assert numbers['peak_bytes'] == 200 * 2**20 and numbers['seconds'] == 0.5


def test_what_was_not_measured_stays_unknown(document):
    bare = document(30.0)
    bare['clear'] = dict.fromkeys(bare['clear'])
    bare['memory'] = dict.fromkeys(bare['memory'])
    bare['rounds'][0]['conditions']['fog']['mIoU'] = None
    bare['source'] = {'conditions': {}, 'mIoU': None}
    numbers = summarise(bare)
    assert numbers['forgetting'] is None and numbers['worst_against_source'] is None
    assert numbers['conditions']['fog'][0] is None and numbers['peak_bytes'] is None


def test_means_over_seeds(records):
    entries = aggregate(records)
    assert len(entries) == 12
    tent = next(e for e in entries if e['method'] == 'tent' and e['model'] == 'r18')
    assert tent['seeds'] == [0, 2] and tent['mean'] == pytest.approx(25.0)
    assert tent['spread'] == pytest.approx(np.std([24.0, 26.0], ddof=1))
    assert tent['rounds'] == pytest.approx([24.5, 25.0, 25.5])
    assert tent['conditions']['night'] == pytest.approx([23.5, 24.0, 24.5])
    assert tent['source_conditions'] == {'fog': 21.0, 'night': 19.0}


def test_unlike_runs_are_not_averaged(document, tmp_path):
    base = BenchmarkRun(ModelSpec('r18', 'a.py', 'b.pth'), MethodSpec.parse('tent', ['tent']))
    runs = [
        *(replace(base, seed=seed, rounds=10) for seed in (0, 1)),
        replace(base, seed=2, rounds=3),
        replace(base, seed=3, rounds=10, options=('x=1',)),
    ]
    for run in runs:
        folder = run_folder(run, tmp_path)
        folder.mkdir(parents=True)
        who = dict(model=run.model._asdict(), method=run.method._asdict())
        (folder / RUN_FILE).write_text(json.dumps({**asdict(run), **who}))
        (folder / 'results.json').write_text(json.dumps(document(20.0 + run.seed)))
    for records in (read_runs(runs, {}, tmp_path), collect_runs(tmp_path, [])):
        entries = aggregate(records)
        found = [(entry['method'], entry['seeds'], entry['mean']) for entry in entries]
        # Two of a name are told apart by what they were run with.
        assert found == [
            ('tent, rounds 10', [0, 1], 20.5),
            ('tent, rounds 3', [2], 22.0),
            ('tent, rounds 10, options x=1', [3], 23.0),
        ]


def test_the_source_is_the_mean_over_seeds_not_over_methods(document, tmp_path):
    def record(method, seed, source):
        return _record(document(30, source=source), method=method, seed=seed)

    one, two = 20.0, 26.0
    records = [record('a', 0, one), record('b', 0, one), record('c', 0, one)]
    entries = aggregate([*records, record('c', 1, two)])
    source = source_of(entries)
    assert source['source_mean'] == 23.0 and source['batch_statistics'] == 25.0
    assert source['source_conditions'] == {'fog': 24.0, 'night': 22.0}
    assert source['clear_source'] == 50.0
    write_report([*records, record('c', 1, two)], tmp_path)
    rows = (tmp_path / 'benchmark.md').read_text().splitlines()
    row = next(line for line in rows if line.startswith('| *source*'))
    assert row.split('|')[3:7] == [' 2 ', ' 24.0 ', ' 22.0 ', ' 23.00 ']


def test_events_and_code_are_told(document, tmp_path):
    def record(seed, events, **changes):
        found = {**document(30), 'events': [{'event': name} for name in events], **changes}
        return _record(found, seed=seed)

    records = [
        record(0, ['skip', 'skip', 'reset']),
        record(1, ['skip']),
        record(2, [], code=None),
    ]
    write_report(records, tmp_path)
    page = (tmp_path / 'benchmark.md').read_text()
    assert '| 3 skip, 1 reset |' in page
    assert '1.2.3 (abc): 2, not recorded: 1.' in page
    runs = list(csv.DictReader((tmp_path / 'cells.csv').open()))
    assert [row['code'] for row in runs] == ['1.2.3 (abc)', '1.2.3 (abc)', '']


def test_all_tables_have_one_order_of_conditions(document):
    def record(stream, names):
        return _record({**document(30), 'conditions': names}, stream=stream)

    records = [record('mixed', ['night', 'fog']), record('continual', ['fog', 'night'])]
    page = markdown(records, aggregate(records))
    assert [line for line in page.splitlines() if line.startswith('## ')] == [
        '## r18, continual stream',
        '## r18, mixed stream',
    ]
    heads = [line for line in page.splitlines() if line.startswith('| method | views')]
    assert len(heads) == 2 and all('| fog | night |' in head for head in heads)


def test_the_files(records, tmp_path):
    paths = write_report(records, tmp_path, 'python tools/benchmark_methods.py ...')
    assert [p.name for p in paths] == [
        'benchmark.json', 'benchmark.csv', 'cells.csv', 'paired.csv', 'benchmark.md'
    ]  # fmt: skip
    page = (tmp_path / 'benchmark.md').read_text()
    assert page.count('\n## ') == 5 and '## b0, ramp stream' in page
    section = page.split('## r18, ramp stream')[1].split('\n## ')[0]
    table = [line for line in section.splitlines() if line.startswith('|')]
    runs = [[c.strip() for c in line.replace('\\|', '/').strip('|').split('|')] for line in table]
    assert len({len(row) for row in runs[:6]}) == 1
    assert [row[0] for row in runs[2:6]] == ['*source*', 'a/b', 'cotta', 'tent']
    row = dict(zip(runs[0], runs[5]))
    assert row['mean'] == '25.00' and row['fog'] == '26.0' and row['last − first'] == '+1.00'
    assert row['peak MiB'] == '400.0' and row['seeds'] == '2' and row['worst'] == '+3.50'
    assert 'sar, ramp, seed 0: no memory \\| left' in page.split('## Not in the tables')[1]

    rows = list(csv.DictReader((tmp_path / 'benchmark.csv').open()))
    assert len(rows) == 24 * 2 * 3
    first = rows[0]
    assert (first['method'], first['round'], first['condition']) == ('tent', '1', 'fog')
    assert float(first['mIoU']) == 24.5 and float(first['source_mIoU']) == 21.0
    runs = list(csv.DictReader((tmp_path / 'cells.csv').open()))
    assert len(runs) == 25 and runs[-1]['error'] and not runs[-1]['mean']
    document = json.loads((tmp_path / 'benchmark.json').read_text())
    assert len(document['cells']) == 25 and len(document['entries']) == 12
    # These runs kept no areas of their frames.
    assert all(entry['paired'] is None for entry in document['entries'])
    assert 'Difference to the source' not in page and not runs[0]['difference']
    assert not list(csv.DictReader((tmp_path / 'paired.csv').open()))


@pytest.mark.parametrize('plot', [plot_rounds, plot_memory])
def test_the_pictures_show_each_method(records, tmp_path, plot):
    path = plot(aggregate(records), tmp_path / 'plot.png')
    image = cv2.imread(str(path))
    assert min(image.shape[:2]) > 300
    for colour in ('#0072b2', '#d55e00', '#009e73'):
        wanted = np.array([int(colour[i : i + 2], 16) for i in (5, 3, 1)])
        assert (np.abs(image.astype(int) - wanted).max(-1) < 12).sum() > 100
    with pytest.raises(ValueError, match='nothing to plot'):
        plot([], tmp_path / 'none.png')


def test_what_was_not_run_leaves_no_panel(records, tmp_path):
    entries = [e for e in aggregate(records) if (e['model'], e['stream']) != ('b0', 'ramp')]
    image = cv2.imread(str(plot_rounds(entries, tmp_path / 'plot.png'))).astype(int)
    whole = cv2.imread(str(plot_rounds(aggregate(records), tmp_path / 'whole.png'))).astype(int)
    assert image.shape == whole.shape
    # Between the left panels and the legend: an axis is what is darkest.
    height, width = image.shape[:2]
    quarter = (slice(int(height * 0.56), None), slice(int(width * 0.46), int(width * 0.8)))
    assert (whole[quarter] < 60).any() and not (image[quarter] < 60).any()
