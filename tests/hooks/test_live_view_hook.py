"""Curves and panels, read back by TensorBoard's reader and from mmengine's local files."""

import importlib.util
import json
import os
import signal
from pathlib import Path

import cv2
import numpy as np
import pytest
from mmengine.hooks import Hook

SCRIPT = Path(__file__).resolve().parents[1] / 'kill_and_resume.py'
_spec = importlib.util.spec_from_file_location('kill_and_resume', SCRIPT)
harness = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(harness)

event_accumulator = pytest.importorskip(
    'tensorboard.backend.event_processing.event_accumulator', reason='needs tensorboard'
)
# What a second run of the same frames measures anew.
MEASURED = ('seconds', 'memory/process_MiB', 'memory/step_MiB')


def visualizer(folder, *names, number=[0]):  # noqa: B006  (a name of its own for each Runner)
    number[0] += 1
    backends = [dict(type=name) for name in names]
    name = f'live_{number[0]}'
    return dict(type='SegLocalVisualizer', name=name, save_dir=str(folder), vis_backends=backends)


def tensorboard(folder):
    """``{tag: {step: value}}`` and the images; a step that is there twice is an error."""
    reader = event_accumulator.EventAccumulator(str(folder), size_guidance={'images': 0})
    reader.Reload()
    curves = {}
    for tag in reader.Tags()['scalars']:
        events = reader.Scalars(tag)
        curves[tag] = {event.step: event.value for event in events}
        assert len(curves[tag]) == len(events), f'{tag} has a step twice'
    images = {tag: reader.Images(tag) for tag in reader.Tags()['images']}
    return curves, images


def local(folder):
    curves = {}
    for line in (folder / 'scalars.json').read_text().splitlines():
        numbers = json.loads(line)
        step = numbers.pop('step')
        for name, value in numbers.items():
            if 'mIoU' in name or 'time' not in name:
                assert step not in curves.setdefault(name, {}), f'{name} has step {step} twice'
                curves[name][step] = value
    return curves


@pytest.fixture(scope='module')
def place(tmp_path_factory):
    """A run of 16 frames (4 of 2 conditions in 2 rounds) with both viewers."""
    base = tmp_path_factory.mktemp('live')
    harness.write_data(base / 'data', frames=4)
    config = harness.write_config(base / 'tent.py', 'tent', base / 'data')
    viewers = visualizer(base / 'view', 'TensorboardVisBackend', 'LocalVisBackend')
    runner = harness.run(config, base / 'whole', visualizer=viewers)
    return base, config, runner


@pytest.mark.slow
def test_the_curves_are_those_of_the_run(place):
    base, _, runner = place
    history = runner.message_hub.get_info('ecotta_seg/history')
    results = json.loads((base / 'whole' / 'results.json').read_text())
    curves, _ = tensorboard(base / 'view' / 'vis_data')
    steps = range(1, len(history) + 1)
    for name in ('loss', 'entropy', 'frame_mIoU', 'round', 'updated'):
        found = [curves[name][step] for step in steps]
        assert found == pytest.approx([float(entry[name]) for entry in history], rel=1e-6), name
    conditions = results['conditions']
    names = [conditions[int(curves['condition'][step])] for step in steps]
    assert names == [entry['condition'] for entry in history]
    for entry in results['rounds']:
        last = max(step for step in steps if curves['round'][step] == entry['round'])
        assert curves['round_mIoU'][last] == pytest.approx(entry['mIoU'])
        for name, scores in entry['conditions'].items():
            of_condition = curves[f'running_mIoU/{name}']
            mine = [
                s for s in of_condition
                if curves['round'][s] == entry['round'] and names[s - 1] == name
            ]  # fmt: skip
            assert len(mine) == scores['frames']
            assert of_condition[max(mine)] == pytest.approx(scores['mIoU'])
            assert curves[f'round_mIoU/{name}'][last] == pytest.approx(scores['mIoU'])
    assert all(curves['seconds'][step] > 0 for step in steps)
    memory = results['memory']
    between = memory['optimizer_bytes']
    peak = (memory['adaptation_peak_bytes'] - between) / 2**20
    assert curves['memory/step_MiB'][len(history)] == pytest.approx(peak)
    assert min(curves['memory/process_MiB'].values()) > 50


def test_local_files_hold_the_same(place):
    base, _, _ = place
    curves, images = tensorboard(base / 'view' / 'vis_data')
    other = local(base / 'view' / 'vis_data')
    for name, values in curves.items():
        assert other[name] == pytest.approx(values, rel=1e-6)
    files = sorted((base / 'view' / 'vis_data' / 'vis_image').iterdir())
    assert len(files) == sum(map(len, images.values())) == 2 * 2 * 2
    for tag, events in images.items():
        for event in events:
            shown = cv2.imdecode(np.frombuffer(event.encoded_image_string, np.uint8), 1)
            (path,) = [file for file in files if file.stem == f'{tag}_{event.step}']
            assert np.array_equal(shown, cv2.imread(str(path)))


def test_without_a_viewer_there_are_curves_and_no_pictures(stream_runner, tmp_path):
    runner = stream_runner([dict(type='LiveViewHook')])
    runner.test()
    (path,) = (tmp_path / 'work').glob('*/vis_data/scalars.json')
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [line['step'] for line in lines if 'loss' in line] == list(range(1, 17))
    assert not list((tmp_path / 'work').rglob('*.png'))


class Kills(Hook):
    """Ends the process without a chance to clean up."""

    priority = 'LOWEST'

    def __init__(self, frame):
        self.frame = frame

    def after_test_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        if batch_idx == self.frame:
            os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.slow
def test_killed_and_resumed_no_step_is_there_twice(place, tmp_path):
    base, config, _ = place
    whole, _ = tensorboard(base / 'view' / 'vis_data')
    names = ('TensorboardVisBackend', 'LocalVisBackend')
    viewers = visualizer(tmp_path / 'view', *names)
    work = tmp_path / 'run'
    pid = harness.forked(harness.run, config, work, hook=Kills(7), visualizer=viewers)
    assert harness.wait(pid) == -signal.SIGKILL
    # States are of frames 3 and 6: local files already have frame 8, which now comes again.
    assert max(local(tmp_path / 'view' / 'vis_data')['loss']) >= 7
    with open(tmp_path / 'view' / 'vis_data' / 'scalars.json', 'a') as file:
        file.write('{"loss": 0.1, "st')
    viewers = visualizer(tmp_path / 'view', *names)
    harness.run(config, work, resume=True, visualizer=viewers)
    for curves in (
        tensorboard(tmp_path / 'view' / 'vis_data')[0],
        local(tmp_path / 'view/vis_data'),
    ):
        assert curves.keys() == whole.keys()
        for name, values in whole.items():
            if name not in MEASURED:
                assert curves[name] == pytest.approx(values, rel=1e-6), name


def test_a_viewer_that_fails_ends_alone(stream_runner, monkeypatch, caplog):
    runner = stream_runner([dict(type='LiveViewHook')])
    calls = []

    def full(numbers, step):
        calls.append(step)
        raise OSError(28, 'No space left on device')

    monkeypatch.setattr(runner.visualizer, 'add_scalars', full)
    runner.logger.handlers.clear()
    said = []
    monkeypatch.setattr(runner.logger, 'warning', said.append)
    runner.test()
    assert calls == [1] and len(said) == 1 and 'the live view ends here' in said[0]
