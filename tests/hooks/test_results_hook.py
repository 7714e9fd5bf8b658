import errno
import io
import json
import os

import pytest
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmseg.registry import METRICS
from rich.console import Console

import ecotta_seg.hooks.results_hook  # noqa: F401
from ecotta_seg.evaluation import load_results


class Tells(Hook):
    """Leaves in the message hub what the measuring hooks would."""

    def __init__(self, **info):
        self.info = info

    def after_test(self, runner):
        for key, value in self.info.items():
            runner.message_hub.update_info(f'ecotta_seg/{key}', value)


def results_hook(**kwargs):
    console = Console(width=100, file=io.StringIO())
    return HOOKS.build(dict(type='ResultsHook', console=console, **kwargs)), console.file


def test_without_other_hooks_only_the_scores_are_there(stream_runner, tmp_path):
    hook, shown = results_hook()
    runner = stream_runner([hook])
    metrics = runner.test()
    document = load_results(tmp_path / 'work')
    assert document['method'] == 'source'
    assert document['conditions'] == ['fog', 'night']
    assert [entry['round'] for entry in document['rounds']] == [1, 2]
    assert document['mean_mIoU'] == pytest.approx(metrics['mIoU'])
    fog = document['rounds'][1]['conditions']['fog']
    assert fog['mIoU'] == pytest.approx(metrics['round2/fog/mIoU'])
    assert fog['frames'] == 4 and fog['IoU']['bus'] is None and fog['left_out'] == ['bus']
    assert document['source'] == {'conditions': {}, 'mIoU': None}
    assert set(document['memory'].values()) == {None}
    assert document['events'] == []
    text = shown.getvalue()
    assert 'source, round 2' in text and 'left out of the mean: bus' in text
    assert runner.message_hub.get_info('ecotta_seg/mean_mIoU') == document['mean_mIoU']
    # In the work dir itself, beside mmengine's time-stamped folder.
    assert {'results.json', 'results.csv'} <= set(os.listdir(tmp_path / 'work'))


def test_a_full_disk_does_not_cost_the_table(stream_runner, monkeypatch):
    def full(*arguments):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), 'results.json')

    monkeypatch.setattr('ecotta_seg.hooks.results_hook.save_results', full)
    hook, shown = results_hook()
    with pytest.raises(OSError, match='No space left'):
        stream_runner([hook]).test()
    assert 'mIoU in percent' in shown.getvalue()


def test_scores_equal_mmseg_on_the_same_run(stream_runner, tmp_path):
    hook, _ = results_hook()
    metrics = [METRICS.build(dict(type=name)) for name in ('PerConditionIoU', 'IoUMetric')]
    metrics[1].prefix = 'mmseg'
    result = stream_runner([hook], metrics=metrics, rounds=1, conditions=('fog',)).test()
    (entry,) = load_results(tmp_path / 'work')['rounds']
    assert entry['conditions']['fog']['mIoU'] == pytest.approx(result['mmseg/mIoU'], abs=0.0051)
    assert entry['conditions']['fog']['aAcc'] == pytest.approx(result['mmseg/aAcc'], abs=0.0051)


def test_what_other_hooks_measured_is_gathered(stream_runner, tmp_path):
    scores = {'mIoU': 20.0, 'aAcc': 50.0, 'frames': 4, 'IoU': {'road': 20.0}}
    source = {'conditions': {'fog': scores}, 'mIoU': 20.0}
    told = Tells(
        method='ecotta',
        source=source,
        references={'batch statistics': source},
        clear={'source': 45.0, 'before': 45.0, 'after': float('nan')},
        memory={'adaptation_peak_bytes': 2**20, 'meter': 'storage'},
        seconds_per_frame={'inference': 0.1, 'adaptation': 0.2},
        events=[{'event': 'rollback', 'stream_index': 3}],
        views=14,
        extra={'seed': 7, 'method': 'not this'},
    )
    hook, shown = results_hook(work_dir=str(tmp_path / 'elsewhere'))
    stream_runner([told, hook]).test()
    document = load_results(tmp_path / 'elsewhere')
    assert not (tmp_path / 'work' / 'results.json').exists()
    assert document['method'] == 'ecotta' and document['source'] == source
    assert document['references']['batch statistics']['mIoU'] == 20.0
    assert document['clear'] == {'source': 45.0, 'before': 45.0, 'after': None}
    assert document['memory']['adaptation_peak_bytes'] == 2**20
    assert document['events'] == [{'event': 'rollback', 'stream_index': 3}]
    assert (document['views'], document['seed']) == (14, 7)
    text = shown.getvalue()
    assert 'ecotta, round 1' in text and 'batch statistics' in text and '14 views' in text


def test_a_part_that_does_not_fit_costs_nothing_else(stream_runner, tmp_path):
    told = Tells(source={'mIoU': 1}, memory=5, clear={'before': 'x'}, events=[{'event': 'skip'}])
    hook, _ = results_hook()
    stream_runner([told, hook]).test()
    document = load_results(tmp_path / 'work')
    assert document['source']['mIoU'] is None and document['clear']['before'] is None
    assert document['events'] == [{'event': 'skip'}]
    assert len(document['rounds']) == 2


def test_without_labels_and_without_the_metric(stream_runner, tmp_path):
    hook, shown = results_hook()
    stream_runner([hook], labels=False).test()
    document = load_results(tmp_path / 'work')
    assert document['mean_mIoU'] is None
    assert document['rounds'][0]['conditions']['fog']['frames_without_label'] == 4
    assert '16 frames without a label' in shown.getvalue()
    stream_runner([hook], metrics=[dict(type='IoUMetric')]).test()
    assert load_results(tmp_path / 'work')['rounds'] == []


def test_old_results_stay_where_a_run_dies(stream_runner, tmp_path):
    hook, _ = results_hook()
    stream_runner([hook]).test()
    before = (tmp_path / 'work' / 'results.json').read_text()

    class Dies(Hook):
        def after_test(self, runner):
            raise RuntimeError('on purpose')

    with pytest.raises(RuntimeError, match='on purpose'):
        stream_runner([Dies(), hook], frames=2).test()
    assert (tmp_path / 'work' / 'results.json').read_text() == before
    assert json.loads(before)['schema'] == 1
