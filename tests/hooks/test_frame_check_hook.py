import importlib.util
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from ecotta_seg.datasets.checks.frame_error import FrameError
from ecotta_seg.hooks import FrameCheckHook

SCRIPT = Path(__file__).resolve().parents[1] / 'kill_and_resume.py'
_spec = importlib.util.spec_from_file_location('kill_and_resume', SCRIPT)
harness = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(harness)

HOOKS = """
custom_hooks = [
    dict(type='EcoTTAHook'), dict(type='FrameCheckHook'), dict(type='StreamStateHook'),
    dict(type='StreamPlotHook'), dict(type='ResultsHook', show=False)]
pipeline = [dict(type='LoadImageFromFile'), dict(type='LoadAnnotations'),
            dict(type='PackSegInputs')]
test_dataloader['dataset'].update(
    rounds=1, conditions=('clear',), dataset=dict(inner, pipeline=pipeline))
"""


@pytest.fixture
def place(tmp_path):
    """A config of a stream of eight frames without made weather, and their paths."""
    harness.write_data(tmp_path / 'data', frames=8)
    config = harness.write_config(tmp_path / 'tent.py', 'tent', tmp_path / 'data')
    with open(config, 'a') as file:
        file.write(HOOKS)
    frames = sorted((tmp_path / 'data/leftImg8bit/val/city').iterdir())
    return config, frames


def spoil(frames):
    """Makes five of the eight frames bad; gives back the words that tell each."""
    frames[1].write_bytes(frames[1].read_bytes()[:300])
    cv2.imwrite(str(frames[2]), np.zeros((64, 96, 3), np.uint8))
    shutil.copy(frames[3], frames[4])
    noise = np.random.default_rng(0).integers(0, 256, (64, 96, 3), dtype=np.uint8)
    cv2.imwrite(str(frames[5]), noise)
    cv2.imwrite(str(frames[6]), np.full((32, 32, 3), 90, np.uint8))
    return {1: 'truncated', 2: 'all black', 4: 'frozen', 5: 'noise', 6: '32x32'}


@pytest.mark.slow
def test_tolerant_lists_bad_frames_and_learns_nothing_from_them(place, tmp_path):
    config, frames = place
    words = spoil(frames)
    harness.run(config, tmp_path / 'run')
    results, history, _ = harness.outcome(tmp_path / 'run')
    assert {event['stream_index']: event['event'] for event in results['events']} == dict.fromkeys(
        words, 'bad_frame'
    )
    for event in results['events']:
        assert words[event['stream_index']] in event['reason']
        assert event['path'] == str(frames[event['stream_index']])
    assert results['bad_frames'] == 5
    rows = [line.split(',') for line in history.splitlines()]
    updated = rows[0].index('updated')
    assert [row[updated] for row in rows[1:]] == [str(i not in words) for i in range(8)]
    # Where there is a picture and a label it is scored: not the truncated, not the small one.
    clear = results['rounds'][0]['conditions']['clear']
    assert (clear['frames'], clear['frames_without_label']) == (6, 2)


@pytest.mark.slow
def test_learning_is_that_of_the_good_frames_alone(place, tmp_path):
    config, frames = place
    spare = tmp_path / 'spare'
    spare.mkdir()
    labels = sorted((tmp_path / 'data/gtFine/val/city').iterdir())
    for path in frames[6:] + labels[6:]:
        shutil.move(path, spare)
    harness.run(config, tmp_path / 'good')
    generator = np.random.default_rng(0)
    for frame in frames[6:]:
        noise = generator.integers(0, 256, (64, 96, 3), dtype=np.uint8)
        cv2.imwrite(str(frame), noise)
    for path in labels[6:]:
        shutil.move(spare / path.name, path)
    harness.run(config, tmp_path / 'all')
    first, second = (harness.outcome(tmp_path / name)[2] for name in ('good', 'all'))
    assert harness.same(first, second)


@pytest.mark.slow
@pytest.mark.parametrize('damage', ['zeros', 'cut', 'empty'])
def test_strict_stops_with_the_file_and_saves_and_goes_on_when_it_is_mended(
    place, tmp_path, damage
):
    config, frames = place
    harness.run(config, tmp_path / 'whole')
    content = frames[4].read_bytes()
    bad = {'zeros': bytes(len(content)), 'cut': content[: len(content) // 2], 'empty': b''}
    frames[4].write_bytes(bad[damage])
    with open(config, 'a') as file:
        file.write("custom_hooks[1]['mode'] = 'strict'\n")
    with pytest.raises(FrameError, match='city_0004') as raised:
        harness.run(config, tmp_path / 'run', interval=50)
    assert '\n' not in str(raised.value)
    (state,) = (tmp_path / 'run' / 'state').iterdir()
    assert state.name.endswith('_00000004.pth')
    frames[4].write_bytes(content)
    # Another file than the bad one is not let through.
    other = frames[2].read_bytes()
    frames[2].write_bytes(other + b' ')
    with pytest.raises(ValueError, match='size of 1 of its files has changed.*city_0002'):
        harness.run(config, tmp_path / 'run', resume=True)
    frames[2].write_bytes(other)
    harness.run(config, tmp_path / 'run', resume=True)
    assert harness.same(harness.outcome(tmp_path / 'run'), harness.outcome(tmp_path / 'whole'))


@pytest.mark.slow
def test_a_broken_label_is_told_and_not_scored(place, tmp_path):
    config, frames = place
    label = tmp_path / 'data/gtFine/val/city/city_0002_gtFine_labelTrainIds.png'
    label.write_bytes(b'')
    harness.run(config, tmp_path / 'run')
    results, _, _ = harness.outcome(tmp_path / 'run')
    (event,) = results['events']
    assert (event['event'], event['stream_index']) == ('bad_label', 2)
    assert results['rounds'][0]['conditions']['clear']['frames'] == 7
    assert results['bad_labels'] == 1
    with open(config, 'a') as file:
        file.write("custom_hooks[1]['mode'] = 'strict'\n")
    with pytest.raises(FrameError) as raised:
        harness.run(config, tmp_path / 'strict')
    # The file that is at fault, and it alone.
    assert str(raised.value).startswith(f'{label}: ')


@pytest.mark.slow
def test_a_label_that_stopped_the_run_can_be_mended(place, tmp_path):
    config, _ = place
    harness.run(config, tmp_path / 'whole')
    label = tmp_path / 'data/gtFine/val/city/city_0005_gtFine_labelTrainIds.png'
    content = label.read_bytes()
    cv2.imwrite(str(label), np.zeros((8, 8), np.uint8))
    # A state of the very frame before is there already: it learns of the file all the same.
    with pytest.raises(FrameError, match='city_0005_gtFine'):
        harness.run(config, tmp_path / 'run', interval=5)
    label.write_bytes(content)
    harness.run(config, tmp_path / 'run', resume=True)
    assert harness.same(harness.outcome(tmp_path / 'run'), harness.outcome(tmp_path / 'whole'))


def test_an_unknown_mode_is_refused():
    with pytest.raises(ValueError, match="'tolerant', 'strict'"):
        FrameCheckHook(mode='lax')


@pytest.mark.parametrize('said_by', ['hook', 'data set', 'nobody'])
def test_sizes_that_may_differ_are_said_so(stream_runner, said_by):
    hook = dict(type='FrameCheckHook', sizes_differ=said_by == 'hook')
    runner = stream_runner([hook])
    if said_by == 'data set':
        runner.test_dataloader.dataset.sizes_differ = True
    runner.call_hook('before_test')
    (check,) = [h for h in runner.hooks if isinstance(h, FrameCheckHook)]
    assert check._checker.sizes_differ is (said_by != 'nobody')
