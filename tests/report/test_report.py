"""``report.html`` by a parser: the numbers are those of ``results.json``, nothing is outside."""

import errno
import json
import os
import re

import pytest

from ecotta_seg.evaluation.results import save_results
from ecotta_seg.report import write_report
from tests.report.html_page import Page

NOTHING = '–'


def report(folder):
    return Page(write_report(folder).read_text(encoding='utf-8'))


def document(folder):
    return json.loads((folder / 'results.json').read_text())


def shown(value):
    return NOTHING if value is None else f'{value:.2f}'


def test_scores_are_those_of_the_results(made_run, tmp_path, names):
    page = report(made_run().write(tmp_path))
    found = document(tmp_path)
    table = page.table('mIoU in percent')
    source = found['source']
    assert list(table) == [
        'source', 'ecotta_plus, round 1', 'ecotta_plus, round 2', 'ecotta_plus, all rounds',
    ]  # fmt: skip
    parts = [('source', source)]
    parts += [(f'ecotta_plus, round {entry["round"]}', entry) for entry in found['rounds']]
    for row, part in parts:
        for condition in names.conditions:
            assert table[row][condition] == shown(part['conditions'][condition]['mIoU'])
        assert table[row]['mean'] == shown(part['mIoU'])
        change = NOTHING if part is source else f'{part["mIoU"] - source["mIoU"]:+.2f}'
        assert table[row]['to source'] == change
    assert table['ecotta_plus, all rounds']['mean'] == shown(found['mean_mIoU'])
    assert f'{found["mean_mIoU"] - source["mIoU"]:+.2f} points' in page.text
    clear = page.table('Clear day')
    assert clear['source']['mIoU'] == '51.00'
    assert clear['ecotta_plus, after the stream'] == {'mIoU': '49.25', 'to source': '-1.75'}
    assert 'Forgetting (before minus after): 1.25 points' in page.text


def test_classes_are_those_of_the_last_round_from_the_largest_gain_on(made_run, tmp_path, names):
    page = report(made_run().write(tmp_path))
    found = document(tmp_path)
    table = page.table('IoU by class in percent, round 2')
    last, source = found['rounds'][-1]['conditions'], found['source']['conditions']
    # The bus is never labelled.
    assert set(table) == set(names.classes[:3])
    changes = []
    for name, row in table.items():
        after = sum(last[c]['IoU'][name] for c in names.conditions) / 2
        before = sum(source[c]['IoU'][name] for c in names.conditions) / 2
        assert row['source'] == shown(before) and row['adapted'] == shown(after)
        assert row['change'] == f'{after - before:+.2f}'
        assert [row[c] for c in names.conditions] == [
            shown(last[c]['IoU'][name]) for c in names.conditions
        ]
        changes.append(after - before)
    assert changes == sorted(changes, reverse=True)


def test_confusion_is_in_percent_of_a_label(made_run, tmp_path, names):
    page = report(made_run().write(tmp_path))
    found = document(tmp_path)['confusion']
    for title, key in (('source', 'source'), ('ecotta_plus, round 2', 'method')):
        pixels, table = found[key]['pixels'], page.table(title)
        for label in names.classes[:3]:
            total = sum(pixels[label].values())
            for name in names.classes[:3]:
                assert table[label][name] == f'{100 * pixels[label].get(name, 0) / total:.0f}'
            # The bus has no label and so no column of its own.
            assert table[label]['others'] == f'{100 * pixels[label]["bus"] / total:.0f}'


def test_memory_time_and_events(made_run, tmp_path):
    page = report(made_run().write(tmp_path))
    memory = page.table('Memory')
    assert memory['peak, adapting'] == {'MiB': '45.0', 'to inference': '1.50x'}
    assert memory['predicted'] == {'MiB': '46.0', 'to inference': '1.53x'}
    assert memory['total']['MiB'] == '60.0'
    seconds = page.table('Time a frame')
    assert seconds['adapting'] == {'seconds': '0.250', 'to inference': '2.50x'}
    counts = page.table('Events by kind')
    assert counts['updates refused by the guard'] == {'number': '2'}
    assert counts['bad frames'] == {'number': '1'}
    assert [row[:2] for row in page.tables['Events in order'][1:]] == [
        ['3', 'skip'], ['5', 'bad_frame'], ['7', 'skip'],
    ]  # fmt: skip
    assert '/d/a<b>.png: cut off <i>' in page.text


def test_settings_and_the_command_line(made_run, tmp_path):
    commands = [
        {'command': ['python', 'tools/test_tta.py', 'a b.py', "it's.pth"], 'folder': '/w d'},
        {'command': ['python', 'tools/test_tta.py', '--resume'], 'folder': '/w'},
    ]
    page = report(made_run().write(tmp_path, record={'commands': commands}))
    for text in ('/c/<source>.pth', '0123456789abcdef', "type='ecotta_plus', lr=1e-4", '0.1 (abc)'):
        assert text in page.text
    line = (
        """cd '/w d'\nACDC_ROOT='/data/<acdc> x' python tools/test_tta.py 'a b.py' 'it'"'"'s.pth'"""
    )
    assert line in page.text
    assert 'these commands resumed it' in page.text and '--resume' in page.text


def test_nothing_is_outside_the_page_and_all_is_escaped(made_run, tmp_path):
    page = report(made_run().write(tmp_path, pictures=True))
    assert page.loads and all(value.startswith('data:image/') for *_, value in page.loads)
    assert not {'script', 'b', 'i', 'link', 'iframe', 'object', 'embed'} & set(page.tags)
    text = (tmp_path / 'report.html').read_text()
    style = text[text.index('<style>') : text.index('</style>')]
    assert 'url(' not in style and '@import' not in style
    assert not re.search(r'https?://', text)
    assert page.text.count('night <script>alert(1)</script>') > 3
    assert '<script' not in text


def test_best_and_worst_frames_only_where_they_are_kept(made_run, tmp_path):
    page = report(made_run().write(tmp_path / 'with', pictures=True))
    assert page.tags.count('figure') == 4
    assert 'source 30.00, adapted 41.50 mIoU, +11.50 points' in page.text
    assert 'source 30.00, adapted 28.25 mIoU, -1.75 points' in page.text
    # Image, two masks and the label of each, and the two plots.
    assert page.tags.count('img') == 4 * 4 + 1 and page.tags.count('source') == 1
    page = report(made_run().write(tmp_path / 'without'))
    assert 'figure' not in page.tags and page.tags.count('img') == 1
    assert len((tmp_path / 'without' / 'report.html').read_text()) < len(
        (tmp_path / 'with' / 'report.html').read_text()
    )


def test_the_only_frame_of_a_condition_is_shown_once(made_run, tmp_path, names):
    run = made_run(frames=1)
    run.write(tmp_path)
    for kind in ('best', 'worst'):
        run.write_frame(tmp_path, names.conditions[0], kind, 0)
    assert report(tmp_path).tags.count('figure') == 1


def test_a_run_without_labels_plots_and_settings(made_run, tmp_path):
    made = made_run()
    nothing = {'mIoU': None, 'aAcc': None, 'frames': 0, 'frames_without_label': 5, 'IoU': {},
               'left_out': []}  # fmt: skip
    found = made.document(source=None, events=[], clear=None, memory=None, seconds_per_frame=None)
    found['rounds'] = [{'round': 1, 'conditions': {'fog': nothing}, 'mIoU': None}]
    found['mean_mIoU'], found['confusion'] = None, {}
    save_results(found, tmp_path)
    page = report(tmp_path)
    assert 'No frame had a label.' in page.text and 'wrote no run.json' in page.text
    assert page.loads == [] and set(page.tables) == {'mIoU in percent'}
    assert 'No update was refused' in page.text
    # Estimates take the place of the scores.
    estimates = dict(estimated_mIoU=34.5, source_estimated_mIoU=19.4)
    found['rounds'][0].update(estimates)
    nothing.update(estimates)
    save_results(found, tmp_path)
    page = report(tmp_path)
    assert 'estimated mIoU of the adapted model is 34.50, that of the source 19.40' in page.text
    assert [row[0] for row in page.tables['mIoU in percent'][1:]] == ['estimated, round 1']


def test_it_is_the_same_when_it_is_made_again(made_run, tmp_path):
    folder = made_run().write(tmp_path, pictures=True)
    first = write_report(folder).read_bytes()
    assert write_report(folder, tmp_path / 'again.html').read_bytes() == first


@pytest.mark.parametrize('name', ['results.json', 'run.json', 'history.csv', 'picture'])
def test_a_half_written_file_is_one_sentence_and_keeps_the_old_report(made_run, tmp_path, name):
    folder = made_run().write(tmp_path, pictures=True)
    before = write_report(folder).read_bytes()
    path = next((folder / 'report_pictures').glob('*')) if name == 'picture' else folder / name
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(ValueError, match=re.escape(path.name)) as caught:
        write_report(folder)
    assert '\n' not in str(caught.value)
    assert (folder / 'report.html').read_bytes() == before


def test_pictures_that_are_no_pictures_are_refused(made_run, tmp_path):
    folder = made_run().write(tmp_path, pictures=True)
    path = next((folder / 'report_pictures').glob('*'))
    kept = json.loads(path.read_text())
    for changed in (
        {'pictures': [['image', 'https://example.com/a.png']]},
        {'pictures': [['image', 'data:image/svg+xml;base64,AAAA']]},
        {'legend': [['road', 'red" onload="']]},
        {'difference': '1'},
    ):
        path.write_text(json.dumps({**kept, **changed}))
        with pytest.raises(ValueError, match='is damaged'):
            write_report(folder)


def test_no_run(tmp_path):
    with pytest.raises(FileNotFoundError, match='does not exist: give the folder of a run'):
        write_report(tmp_path / 'nowhere')
    with pytest.raises(FileNotFoundError, match=r'run tools/test_tta\.py'):
        write_report(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_keeps_the_old_report(made_run, tmp_path, monkeypatch):
    folder = made_run().write(tmp_path)
    before = write_report(folder).read_bytes()
    there = sorted(path.name for path in folder.iterdir())

    def full(handle):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, 'fsync', full)
    with pytest.raises(OSError, match='No space left') as caught:
        write_report(folder)
    assert caught.value.filename == str(folder / 'report.html')
    assert (folder / 'report.html').read_bytes() == before
    assert sorted(path.name for path in folder.iterdir()) == there


def test_a_history_that_is_cut_off_in_its_last_value_is_refused(made_run, tmp_path):
    folder = made_run().write(tmp_path)
    path = folder / 'history.csv'
    # The last column says whether the source's prediction was given out.
    path.write_text(path.read_text().rstrip('\n') + 'Tru')
    with pytest.raises(ValueError, match=r'history\.csv is damaged'):
        write_report(folder)
    path.write_text(path.read_text() + 'e\n')
    assert write_report(folder).is_file()
