import csv
import errno
import math
import os

import pytest
from mmengine.hooks import Hook
from mmengine.registry import HOOKS

from ecotta_seg.hooks import stream_plot_hook
from ecotta_seg.hooks.results_hook import ResultsHook
from ecotta_seg.hooks.stream_plot_hook import COLUMNS, StreamPlotHook


def history_of(runner):
    return runner.message_hub.get_info('ecotta_seg/history')


def test_history_has_an_entry_for_each_frame(stream_runner, tmp_path):
    runner = stream_runner([HOOKS.build(dict(type='StreamPlotHook'))])
    metrics = runner.test()
    history = history_of(runner)
    assert [entry['stream_index'] for entry in history] == list(range(16))
    assert all(tuple(entry) == COLUMNS for entry in history)
    first, last = history[0], history[-1]
    assert (first['round'], first['condition']) == (1, 'fog')
    assert (last['round'], last['condition']) == (2, 'night')
    assert first['loss'] == 1 and first['entropy'] == 0.5 and first['updated'] is True
    assert first['regularisation'] is None
    assert first['frame_mIoU'] == first['running_mIoU']
    assert last['running_mIoU'] == pytest.approx(metrics['round2/night/mIoU'])
    assert last['frame_mIoU'] != last['running_mIoU']
    work_dir = tmp_path / 'work'
    assert (work_dir / 'stream.png').stat().st_size > 1000
    with open(work_dir / 'history.csv', newline='') as file:
        rows = list(csv.DictReader(file))
    assert tuple(rows[0]) == COLUMNS and len(rows) == 16
    assert float(rows[5]['running_mIoU']) == history[5]['running_mIoU']
    assert rows[0]['regularisation'] == ''


def test_a_full_disk_costs_the_plot_alone(stream_runner, tmp_path, monkeypatch, warnings_of):
    def full(*arguments, **options):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), 'stream.png')

    monkeypatch.setattr(stream_plot_hook, 'plot_stream', full)
    told = warnings_of(stream_runner([StreamPlotHook(), ResultsHook(show=False)]))
    assert (tmp_path / 'work' / 'results.json').is_file()
    (sentence,) = [text for text in told if 'the plot of the stream is not written' in text]
    assert 'stream.png: No space left on device' in sentence


def test_batches_are_taken_apart(stream_runner):
    single = stream_runner([StreamPlotHook()])
    single.test()
    batched = stream_runner([StreamPlotHook()], batch_size=4)
    batched.test()
    assert [e['stream_index'] for e in history_of(batched)] == list(range(16))
    # The toy model errs the same on all frames of its first step.
    first = [entry['frame_mIoU'] for entry in history_of(batched)[:4]]
    assert first[0] == history_of(single)[0]['frame_mIoU']
    assert len(set(first)) == 4


def test_levels_and_events_of_other_hooks_are_drawn(stream_runner, tmp_path, monkeypatch):
    class Tells(Hook):
        def after_test_epoch(self, runner, metrics=None):
            source = {'conditions': {'fog': {'mIoU': 12.5}}, 'mIoU': 12.5}
            runner.message_hub.update_info('ecotta_seg/source', source)
            runner.message_hub.update_info('ecotta_seg/events', [{'stream_index': 2}])
            runner.message_hub.update_info('ecotta_seg/method', 'eco\x1btta')

    seen = {}
    monkeypatch.setattr(
        'ecotta_seg.hooks.stream_plot_hook.plot_stream',
        lambda history, path, **kwargs: seen.update(kwargs, path=path, frames=len(history)),
    )
    stream_runner([Tells(), StreamPlotHook(out_dir=str(tmp_path / 'plots'))]).test()
    assert seen == {
        'source': {'fog': 12.5},
        'events': [{'stream_index': 2}],
        'title': 'eco\\x1btta',
        'path': tmp_path / 'plots' / 'stream.png',
        'frames': 16,
    }
    assert (tmp_path / 'plots' / 'history.csv').exists()


def test_without_metric_and_without_steps(stream_runner, toy_model, tmp_path):
    model = toy_model()
    model.test_step = lambda data: model.read(data['inputs'], data['data_samples'], 3)
    model.last_step = None
    runner = stream_runner([StreamPlotHook()], metrics=[dict(type='IoUMetric')], model=model)
    runner.test()
    entry = history_of(runner)[3]
    assert entry['loss'] is None and entry['running_mIoU'] is None
    assert (tmp_path / 'work' / 'stream.png').exists()
    assert not any(isinstance(v, float) and math.isnan(v) for v in entry.values())


def test_frames_without_metainfo_are_counted(stream_runner, toy_model):
    class Bare(toy_model):
        def test_step(self, data):
            outputs = super().test_step(data)
            for sample in outputs:
                for key in ('round', 'condition', 'stream_index'):
                    sample.pop(key)
            return outputs

    runner = stream_runner([StreamPlotHook()], model=Bare())
    runner.test()
    history = history_of(runner)
    assert [entry['stream_index'] for entry in history] == list(range(16))
    assert {(entry['round'], entry['condition']) for entry in history} == {(1, 'all')}
