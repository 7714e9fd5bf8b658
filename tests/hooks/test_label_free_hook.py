"""The estimate of mIoU in a real run: what is written, and that a stop changes nothing."""

import csv

import pytest
import torch

from tests.hooks.test_stream_state_hook import harness, stopped

KEYS = ('estimated_mIoU', 'source_estimated_mIoU', 'source_given')
ESTIMATE = {'estimate': dict(fallback=True, every=2)}


@pytest.fixture(scope='module')
def place(tmp_path_factory):
    """The config of a small run, and the folder of one that was never stopped."""
    base = tmp_path_factory.mktemp('estimates')
    harness.write_data(base / 'data', frames=4)
    config = harness.write_config(base / 'tent.py', 'tent', base / 'data')
    runner = harness.run(config, base / 'whole', **ESTIMATE)
    return base, config, harness.outcome(base / 'whole'), runner


def test_estimates_are_beside_what_was_measured(place):
    base, _, (results, *_), runner = place
    assert [set(entry['conditions']) for entry in results['rounds']] == [{'fog', 'night'}] * 2
    history = list(csv.DictReader((base / 'whole' / 'history.csv').open()))
    assert len(history) == 16
    for entry in results['rounds']:
        for name, found in entry['conditions'].items():
            assert 0 <= found['estimated_mIoU'] <= 100 and found['mIoU'] is not None
            rows = [
                r for r in history if (r['round'], r['condition']) == (f'{entry["round"]}', name)
            ]
            given = [row['source_given'] == 'True' for row in rows]
            assert found['source_given'] == sum(given) / 4
        for key in KEYS:
            values = [found[key] for found in entry['conditions'].values()]
            assert entry[key] == pytest.approx(sum(values) / 2)
    first = results['rounds'][0]
    for name, found in results['source']['conditions'].items():
        assert found['estimated_mIoU'] == first['conditions'][name]['source_estimated_mIoU']
    assert results['source']['estimated_mIoU'] == first['source_estimated_mIoU']
    running = runner.model.estimate.running()
    assert float(history[-1]['estimated_mIoU']) == pytest.approx(running.adapted)


@pytest.mark.parametrize('frame', [4, 7])
def test_a_stopped_run_ends_as_if_it_never_had_been(place, tmp_path, frame):
    _, config, whole, runner = place
    stopped(config, tmp_path / 'run', frame, **ESTIMATE)
    resumed = harness.run(config, tmp_path / 'run', resume=True, **ESTIMATE)
    assert harness.same(harness.outcome(tmp_path / 'run'), whole)
    first, second = (each.model.estimate.state_dict() for each in (runner, resumed))
    assert first['frames'] == second['frames'] == 16
    assert torch.equal(first['areas'], second['areas']) and first['share'] == second['share']


def test_without_an_estimate_nothing_is_written(place, tmp_path):
    _, config, *_ = place
    runner = harness.run(config, tmp_path / 'run')
    assert runner.model.estimate is None
    results, history, _ = harness.outcome(tmp_path / 'run')
    for entry in (*results['rounds'], results['source']):
        assert not set(KEYS) & set(entry)
    assert not [row for row in csv.DictReader(history.splitlines()) if row['estimated_mIoU']]


def test_the_estimate_is_calibrated_on_the_clear_day(place):
    *_, runner = place
    estimate = runner.model.estimate
    # Tent starts with the frame's statistics, which cost something on a clear day.
    assert estimate.share < 1 and estimate.classes is not None
