"""Recordings for Rerun, read back by its own reader."""

import importlib.metadata
import importlib.util
import os
import signal
from pathlib import Path

import numpy as np
import pytest
from mmengine.hooks import Hook

from ecotta_seg.hooks import RerunHook

rerun = pytest.importorskip('rerun', reason='needs rerun-sdk')
_version = tuple(map(int, importlib.metadata.version('rerun-sdk').split('.')[:2]))
if _version < (0, 24):
    pytest.skip('rerun-sdk before 0.24 does not work with numpy 1', allow_module_level=True)

SCRIPT = Path(__file__).resolve().parents[1] / 'kill_and_resume.py'
_spec = importlib.util.spec_from_file_location('kill_and_resume', SCRIPT)
harness = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(harness)


def rows(path):
    """``{entity: {frame: [row, ...]}}`` with the rows' columns by name."""
    from rerun.chunk import RrdReader

    found = {}
    for chunk in RrdReader(str(path)).stream():
        batch = chunk.to_record_batch()
        entity = found.setdefault(str(chunk.entity_path), {})
        names = [name for name in batch.schema.names if not name.startswith('log_')]
        for row in batch.select(names).to_pylist():
            entity.setdefault(row.get('frame'), []).append(row)
    return found


def column(row, ending):
    (value,) = [value for name, value in row.items() if name.endswith(ending)]
    return value


def test_frames_masks_and_curves_on_one_timeline(stream_runner, tmp_path):
    path = tmp_path / 'deep' / 'run.rrd'
    runner = stream_runner([dict(type='RerunHook', path=str(path)), dict(type='StreamPlotHook')])
    runner.test()
    assert [file.name for file in path.parent.iterdir()] == ['run.rrd']
    found = rows(path)
    frames = list(range(1, 17))
    for entity in ('/image', '/masks/adapted', '/masks/label', '/stream', '/scalars/loss'):
        assert sorted(found[entity]) == frames, entity
        assert all(len(entries) == 1 for entries in found[entity].values()), entity
    history = runner.message_hub.get_info('ecotta_seg/history')
    for name in ('loss', 'frame_mIoU'):
        curve = [column(found[f'/scalars/{name}'][f][0], 'scalars')[0] for f in frames]
        assert curve == pytest.approx([entry[name] for entry in history])
    dataset = runner.test_dataloader.dataset
    for frame in frames:
        label = dataset[frame - 1]['data_samples'].gt_sem_seg.data[0].numpy()
        buffer = column(found['/masks/label'][frame][0], 'buffer')[0]
        assert np.array_equal(np.frombuffer(bytes(buffer), np.uint8).reshape(24, 32), label)
        condition = history[frame - 1]['condition']
        assert column(found['/stream'][frame][0], 'text')[0].startswith(f'{condition}, round')
    (legend,) = found['/masks'][None]
    assert 'road' in str(legend) and 'none' in str(legend)


class Kills(Hook):
    """Ends the process without a chance to clean up."""

    priority = 'LOWEST'

    def after_test_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        if batch_idx == 7:
            os.kill(os.getpid(), signal.SIGKILL)


def test_killed_and_resumed_it_is_whole_and_no_frame_is_there_twice(tmp_path):
    harness.write_data(tmp_path / 'data', frames=4)
    config = harness.write_config(tmp_path / 'tent.py', 'tent', tmp_path / 'data')
    text = config.read_text() + 'custom_hooks = _base_.custom_hooks\n'
    path = tmp_path / 'run.rrd'
    hook = f"dict(type='RerunHook', path={str(path)!r})"
    config.write_text(text.replace('_base_.custom_hooks', f'[*_base_.custom_hooks, {hook}]'))
    pid = harness.forked(harness.run, config, tmp_path / 'run', hook=Kills())
    assert harness.wait(pid) == -signal.SIGKILL
    part = tmp_path / 'run.part1.rrd'
    assert part.is_file() and not path.exists()
    # All frames of the newest state are in what is left.
    assert set(range(1, 7)) <= set(rows(part)['/image'])
    harness.run(config, tmp_path / 'run', resume=True)
    assert not list(tmp_path.glob('*.part*')) and not list(tmp_path.glob('.*.rrd'))
    found = rows(path)
    for entity in ('/image', '/masks/adapted', '/scalars/loss'):
        assert sorted(found[entity]) == list(range(1, 17))
        assert all(len(entries) == 1 for entries in found[entity].values())


def test_what_cannot_be_written_to_its_end_leaves_the_old_file(
    stream_runner, tmp_path, monkeypatch
):
    path = tmp_path / 'run.rrd'
    path.write_text('of an earlier run')
    hook = RerunHook(str(path))
    runner = stream_runner([hook])
    said = []
    monkeypatch.setattr(runner.logger, 'warning', said.append)

    class Cuts(Hook):
        priority = 'VERY_HIGH'

        def after_test(self, runner):
            # As a disk does that is full at the end.
            hook._file.close()
            os.truncate(tmp_path / 'run.part1.rrd', 1000)
            monkeypatch.setattr(hook._file, 'flush', lambda: 0)

    runner.register_hook(Cuts())
    runner.test()
    assert path.read_text() == 'of an earlier run'
    assert len(said) == 1 and 'is incomplete' in said[0] and 'run.part1.rrd' in said[0]


def test_mistakes():
    with pytest.raises(ValueError, match='ends with .rrd'):
        RerunHook('run.mp4')
