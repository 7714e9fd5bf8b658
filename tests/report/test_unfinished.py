"""The report of a run that has not ended: what its newest whole state holds."""

import json

import pytest

from ecotta_seg.evaluation import PerConditionIoU
from ecotta_seg.report import write_report
from ecotta_seg.report.run_file import write_run_file
from ecotta_seg.report.unfinished import saved_part
from ecotta_seg.resume.state_file import write_state
from tests.report.html_page import Page


def metric_of(run, predictions, number, done, names):
    metric = PerConditionIoU()
    metric.dataset_meta = {'classes': names.classes}
    for key in done:
        sample = {
            'round': number, 'condition': key[0],
            'pred_sem_seg': {'data': predictions[key][None]},
            'gt_sem_seg': {'data': run.labels[key][None]},
        }  # fmt: skip
        metric.process({}, [sample])
    return metric


@pytest.fixture
def died(made_run, tmp_path, names):
    """A run that was killed after seven of its twenty frames, with results of an earlier run."""
    run = made_run()
    folder = run.write(tmp_path / 'died', record={'finished': None}, areas=True)
    done = list(run.labels)[:7]
    metric = metric_of(run, run.method[1], 1, done, names)
    source = metric_of(run, run.source, 1, done, names)
    hooks = {
        'ecotta_seg.hooks.source_reference_hook.SourceReferenceHook 1': {
            'metrics': {'source': source.state_dict(), 'batch_statistics': source.state_dict()},
        },
        'ecotta_seg.hooks.forgetting_hook.ForgettingHook 1': {'source': 51.5, 'before': 50.0},
    }
    history = '\n'.join(json.dumps(entry) for entry in run.history()[:7])
    events = json.dumps({'event': 'skip', 'stream_index': 2, 'reason': 'loss <nan>'})
    state = {
        'position': 7, 'metrics': [metric.state_dict()], 'hooks': hooks,
        'growing': {'history': history, 'events': events},
    }  # fmt: skip
    write_state(state, folder / 'state' / 'stream_state_rank0_00000007.pth')
    return folder, run, metric, source


def test_it_shows_what_is_saved(died, names):
    folder, _, metric, source = died
    page = Page(write_report(folder).read_text())
    assert 'The run has not ended: 7 of 20 frames are saved' in page.text
    (entry,), (before,) = metric.summary(), source.summary()
    table = page.table('mIoU in percent')
    assert list(table) == ['source', 'batch_statistics', 'ecotta_plus, round 1']
    for row, part in (('source', before), ('ecotta_plus, round 1', entry)):
        for condition in names.conditions:
            assert table[row][condition] == f'{part["conditions"][condition]["mIoU"]:.2f}'
        assert table[row]['mean'] == f'{part["mIoU"]:.2f}'
    assert page.table('Clear day')['source']['mIoU'] == '51.50'
    assert 'loss <nan>' in page.text and {'stream', 'confusion', 'command'} <= set(page.ids)


def test_a_damaged_state_is_passed_over(died):
    folder, *_ = died
    whole = folder / 'state' / 'stream_state_rank0_00000007.pth'
    content = whole.read_bytes()
    (folder / 'state' / 'stream_state_rank0_00000009.pth').write_bytes(content[:500])
    assert 'has not ended: 7 of 20' in Page(write_report(folder).read_text()).text
    whole.write_bytes(content[:-3])
    with pytest.raises(ValueError, match='no saved state of the run is complete') as caught:
        write_report(folder)
    assert '\n' not in str(caught.value)


def test_before_the_first_state_the_settings_are_shown(made_run, tmp_path):
    write_run_file(tmp_path, made_run().record(finished=None))
    page = Page(write_report(tmp_path).read_text())
    assert 'No frame is scored yet' in page.text and '0 of 20 frames' in page.text
    assert "type='ecotta_plus', lr=1e-4" in page.text and page.tables == {}


def test_the_settings_of_the_metric_are_those_of_the_run(died):
    folder, run, metric, _ = died
    record = run.record(metric={'mean_over': 'occurring', 'ignore_index': 255})
    found = saved_part(folder, record).document['rounds'][0]['mIoU']
    metric.mean_over = 'occurring'
    assert found == pytest.approx(metric.summary()[0]['mIoU'])
    metric.mean_over = 'labelled'
    # The bus is predicted and never labelled.
    assert found < metric.summary()[0]['mIoU']
