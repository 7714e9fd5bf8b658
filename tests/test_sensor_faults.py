"""A broken sensor in the middle of a stream leaves no trace behind it."""

import importlib.util
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parent / 'sensor_fault_stretch.py'
_spec = importlib.util.spec_from_file_location('sensor_fault_stretch', SCRIPT)
stretch = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(stretch)


@pytest.mark.slow
@pytest.mark.parametrize('method', ['ecotta', 'ecotta_plus'])
def test_the_next_conditions_score_as_without_the_stretch(method):
    whole = stretch.drive(method, 0, scenes_each=4)
    ended = stretch.drive(method, 60, scenes_each=4)
    assert ended['updates'] < 20 and ended['events']['bad_frame'] > 40
    for condition, miou in whole['miou'].items():
        assert ended['miou'][condition] == pytest.approx(miou, abs=1), condition


@pytest.mark.slow
@pytest.mark.parametrize('method', ['ecotta', 'ecotta_plus'])
def test_the_guard_alone_holds_out_against_noise(method):
    options = dict(scenes_each=4, check_frames=False)
    whole = stretch.drive(method, 0, **options)
    assert whole['events'] == {}
    ended = stretch.drive(method, 60, kinds=stretch.NOISE, **options)
    # Each frame is judged alone.
    assert ended['updates'] == 0 and set(ended['events']) == {'skip'}
    for condition, miou in whole['miou'].items():
        assert ended['miou'][condition] == pytest.approx(miou, abs=0.5), condition
