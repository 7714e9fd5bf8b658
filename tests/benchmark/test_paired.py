"""Paired differences of runs, of seeds together, and where the report has them."""

import csv
import json
import os

import pytest
import torch

from ecotta_seg.benchmark import summarise, write_report
from ecotta_seg.benchmark.paired import paired_differences
from ecotta_seg.evaluation.class_areas import class_areas, mean_iou, scores
from ecotta_seg.evaluation.frame_areas import encode_frame

NAMES = ('road', 'car', 'sky')


def _frames(seed, count):
    label = torch.randint(0, 3, (count, 6, 8), generator=torch.Generator().manual_seed(9))
    prediction = torch.randint(0, 3, (count, 6, 8), generator=torch.Generator().manual_seed(seed))
    return torch.stack([class_areas(p, one, 3) for p, one in zip(prediction, label)])


@pytest.fixture
def make_run(document, tmp_path):
    """A function that writes a run; gives its record, and mIoU by condition less the source's."""

    def make(seed, counts=(('fog', 4), ('night', 2)), method='tent', shift=0):
        folder = tmp_path / f'{method}{seed}'
        folder.mkdir()
        found, lines, differences = document(30, rounds=2), [], {}
        for place, (name, count) in enumerate(counts):
            source = _frames(1000 + seed, count)
            found['source']['conditions'][name] = _scored(source)
            mious = []
            for entry in found['rounds']:
                number = entry['round']
                areas = _frames(100 * seed + 10 * number + place, count)
                entry['conditions'][name] = _scored(areas)
                mious.append(mean_iou(areas.sum(0)) - mean_iou(source.sum(0)))
                for index in range(count):
                    below = source[index] if number == 1 else None
                    path = f'{name}{index + shift}.png'
                    lines.append(encode_frame(number, name, path, areas[index], below))
            differences[name] = sum(mious) / len(mious)
        (folder / 'frame_areas.jsonl').write_text(''.join(lines))
        (folder / 'results.json').write_text(json.dumps(found))
        who = dict(model='r18', method=method, stream='continual', seed=seed, asked_views=None)
        record = {**who, 'error': None, 'folder': str(folder), **summarise(found)}
        return record, differences

    return make


def _scored(areas):
    return dict(scores(areas.sum(0), NAMES), frames=len(areas))


def test_a_run_and_seeds_together(make_run):
    runs = [make_run(seed) for seed in (0, 1)]
    alone = [paired_differences([record['folder']]) for record, _ in runs]
    both = paired_differences([record['folder'] for record, _ in runs])
    for name in ('fog', 'night'):
        expected = [differences[name] for _, differences in runs]
        found = [paired['conditions'][name]['difference'] for paired in alone]
        assert found == pytest.approx(expected)
        together = both['conditions'][name]
        assert together['difference'] == pytest.approx(sum(expected) / 2)
        assert together['low'] < together['difference'] < together['high']
    assert both['mean']['frames'] == 3.0 and both['conditions']['fog']['frames'] == 4


def test_what_is_not_of_the_results_or_of_other_frames_gives_nothing(make_run):
    folders = [make_run(seed, shift=seed)[0]['folder'] for seed in (0, 1)]
    assert paired_differences(folders) is None  # Frames of other names.
    assert paired_differences(folders[:1]) is not None
    path = f'{folders[0]}/frame_areas.jsonl'
    lines = open(path).read().splitlines(keepends=True)
    open(path, 'w').writelines(lines[1:])
    # A file that has changed is read again.
    assert paired_differences(folders[:1]) is None
    os.remove(path)
    assert paired_differences(folders[:1]) is None


def test_the_report_has_them(make_run, tmp_path):
    runs = [make_run(0), make_run(1), make_run(2, method='a|b')]
    old, _ = make_run(3, method='old')
    os.remove(f'{old["folder"]}/frame_areas.jsonl')
    folder = tmp_path / 'report'
    write_report([*(record for record, _ in runs), old], folder, draws=50)
    page = (folder / 'benchmark.md').read_text()
    table = page.split('### Difference to the source on the same frames')[1].split('###')[0]
    rows = [line for line in table.splitlines() if line.startswith('| ')]
    assert rows[0] == '| method | fog | night | mean |'
    assert rows[2] == '| *frames* | 4 | 2 | 3 |'
    assert {row.split(' | ')[0] for row in rows[3:]} == {'| tent', '| a\\|b', '| old'}
    fog = sum(differences['fog'] for _, differences in runs[:2]) / 2
    assert next(row for row in rows if row.startswith('| tent')).startswith(
        f'| tent | {fog:+.2f} ('
    )

    rows = list(csv.DictReader((folder / 'paired.csv').open()))
    assert [(row['method'], row['seeds'], row['condition']) for row in rows] == [
        *(('tent', '0 1', name) for name in ('fog', 'night', 'mean')),
        *(('a|b', '2', name) for name in ('fog', 'night', 'mean')),
    ]
    assert float(rows[0]['difference']) == pytest.approx(fog)
    assert [row['frames_per_condition'] for row in rows[:3]] == ['4', '2', '3.0']
    one = list(csv.DictReader((folder / 'cells.csv').open()))
    expected = sum(runs[0][1].values()) / 2
    assert float(one[0]['difference']) == pytest.approx(expected)
    assert float(one[0]['difference_low']) < expected < float(one[0]['difference_high'])
    assert not one[3]['difference'] and one[3]['mean']
    saved = json.loads((folder / 'benchmark.json').read_text())
    assert saved['entries'][0]['paired'] == paired_differences(
        [record['folder'] for record, _ in runs[:2]], 50
    )
