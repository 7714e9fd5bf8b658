import errno
import io
import json
import os

import pytest
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from rich.console import Console

import ecotta_seg.hooks.report_hook as report_hook
from ecotta_seg.hooks import ReportHook, ResultsHook, StreamPlotHook
from ecotta_seg.report.run_file import read_run_file
from tests.report.html_page import Page


def results_hook():
    return ResultsHook(console=Console(width=100, file=io.StringIO()))


class Resumed(Hook):
    """Says what ``StreamStateHook`` says of a run that goes on."""

    def before_test(self, runner):
        runner.message_hub.update_info('ecotta_seg/resumed_at', 4)


def test_it_writes_the_report_after_the_results(stream_runner, tmp_path):
    hook = HOOKS.build(dict(type='ReportHook', checkpoint=str(tmp_path / 'source.pth')))
    (tmp_path / 'source.pth').write_bytes(b'weights')
    # In the wrong order: the priority puts it behind.
    runner = stream_runner([hook, results_hook(), StreamPlotHook()])
    metrics = runner.test()
    page = Page((tmp_path / 'work' / 'report.html').read_text())
    table = page.table('mIoU in percent')
    assert table['source, round 2']['fog'] == f'{metrics["round2/fog/mIoU"]:.2f}'
    assert {'stream', 'classes', 'confusion', 'command'} <= set(page.ids)
    record = read_run_file(tmp_path / 'work')
    assert record['checkpoint'] == str(tmp_path / 'source.pth')
    # printf weights | sha256sum
    assert record['checkpoint_digest'] == '9a129038d9a00aed'
    assert record['frames'] == 16 and record['rounds'] == 2
    assert record['classes'] == ['road', 'car', 'sky', 'bus']
    assert record['metric'] == {'mean_over': 'labelled', 'ignore_index': 255}
    assert record['seed'] == runner.seed and record['started'] <= record['finished']
    assert record['commands'][0]['folder'] == os.getcwd() and len(record['commands']) == 1


def test_what_it_was_started_with_is_there_before_the_first_frame(stream_runner, tmp_path):
    found = []

    class Looks(Hook):
        def before_test_iter(self, runner, batch_idx, data_batch=None):
            found.append(read_run_file(tmp_path / 'work'))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stream_runner([ReportHook(), Looks()]).test()
    assert found[0]['finished'] is None
    assert not (tmp_path / 'work' / 'report.html').exists()


def test_a_run_that_goes_on_adds_its_command(stream_runner, tmp_path):
    stream_runner([ReportHook(), results_hook()]).test()
    first = read_run_file(tmp_path / 'work')
    stream_runner([ReportHook(), Resumed(), results_hook()]).test()
    second = read_run_file(tmp_path / 'work')
    assert second['started'] == first['started'] and len(second['commands']) == 2
    stream_runner([ReportHook(), results_hook()]).test()
    assert len(read_run_file(tmp_path / 'work')['commands']) == 1


def test_a_full_disk_costs_the_report_alone(stream_runner, tmp_path, monkeypatch, warnings_of):
    def full(*arguments, **options):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), 'report.html')

    monkeypatch.setattr(report_hook, 'write_report', full)
    told = warnings_of(stream_runner([ReportHook(), results_hook()]))
    assert json.loads((tmp_path / 'work' / 'results.json').read_text())['rounds']
    (sentence,) = [text for text in told if 'report' in text]
    assert 'No space left' in sentence and 'the results are complete' in sentence
    assert 'tools/report.py' in sentence and '\n' not in sentence


def test_a_run_file_that_cannot_be_written_stops_nothing(
    stream_runner, tmp_path, monkeypatch, warnings_of
):
    def full(*arguments):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), 'run.json')

    monkeypatch.setattr(report_hook, 'write_run_file', full)
    told = warnings_of(stream_runner([ReportHook(), results_hook()]))
    assert (tmp_path / 'work' / 'results.json').is_file()
    assert not (tmp_path / 'work' / 'report.html').exists()
    assert len([text for text in told if 'run.json is not written' in text]) == 1


def test_without_results_the_run_ends_as_it_would(stream_runner, tmp_path, warnings_of):
    told = warnings_of(stream_runner([ReportHook()]))
    assert [text for text in told if 'the report is not written' in text]
