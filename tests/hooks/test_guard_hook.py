import importlib.util
import json
import os
import signal
from pathlib import Path

import pytest
from mmengine.hooks import Hook

from ecotta_seg.hooks import GuardHook

SCRIPT = Path(__file__).resolve().parents[1] / 'kill_and_resume.py'
_spec = importlib.util.spec_from_file_location('kill_and_resume', SCRIPT)
harness = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(harness)


@pytest.fixture(scope='module')
def config(tmp_path_factory):
    """The config of a small Tent run."""
    base = tmp_path_factory.mktemp('guard')
    harness.write_data(base / 'data', frames=6)
    path = harness.write_config(base / 'tent.py', 'tent', base / 'data')
    # Checks that come often enough for a short stream.
    with open(path, 'a') as file:
        file.write(
            "custom_hooks = [dict(type='EcoTTAHook'), dict(type='GuardHook', check_every=2, "
            "window=1), dict(type='StreamStateHook'), dict(type='StreamPlotHook'), "
            "dict(type='ResultsHook', show=False)]\n"
        )
    return path


WILD = {'adaptation.optimizer.lr': 0.1}


def test_a_healthy_stream_has_no_events(config, tmp_path):
    harness.run(config, tmp_path / 'run')
    assert harness.outcome(tmp_path / 'run')[0]['events'] == []


def test_events_are_in_the_results_and_survive_a_stop(config, tmp_path):
    harness.run(config, tmp_path / 'whole', **WILD)
    whole = harness.outcome(tmp_path / 'whole')
    events = whole[0]['events']
    assert {event['event'] for event in events} == {'rollback', 'reset'}
    assert all('agreement with the source' in event['reason'] for event in events)
    assert all(0 <= event['stream_index'] < 24 for event in events)

    class Stops(Hook):
        def after_test_iter(self, runner, batch_idx, data_batch=None, outputs=None):
            if batch_idx == 12:
                os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        harness.run(config, tmp_path / 'run', hook=Stops(), **WILD)
    harness.run(config, tmp_path / 'run', resume=True, **WILD)
    assert harness.same(harness.outcome(tmp_path / 'run'), whole)
    json.dumps(events)


@pytest.mark.slow
def test_resets_of_the_methods_own_are_in_the_results(tmp_path):
    harness.write_data(tmp_path / 'data', frames=6)
    path = harness.write_config(tmp_path / 'rdumb.py', 'rdumb', tmp_path / 'data')
    harness.run(path, tmp_path / 'run', **{'adaptation.reset_every': 10})
    found = [e for e in harness.outcome(tmp_path / 'run')[0]['events'] if e['event'] == 'own_reset']
    assert [event['stream_index'] for event in found] == [10, 20]
    assert found[0]['reason'] == 'RDumb: after each 10 frames'


def test_wrong_limits_are_told_before_the_run():
    with pytest.raises(ValueError, match='from 0 to 1'):
        GuardHook(min_agreement=55)
