"""The areas of each frame as a run writes them, whole or stopped on the way."""

import json
import signal

import pytest
import torch
from mmengine.hooks import Hook

from ecotta_seg.evaluation.class_areas import class_areas
from ecotta_seg.evaluation.frame_areas import load_frame_areas
from ecotta_seg.evaluation.results import load_results
from ecotta_seg.hooks import FrameAreasHook, ResultsHook
from tests.tools.conftest import project, run_tool, started_tool, wait_for_a_state  # noqa: F401


def _lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def _tta(project, work_dir, rounds):  # noqa: F811
    return [
        *('test_tta', project.config, project.checkpoint, '--method', 'tent', '--frame-areas'),
        *('--rounds', rounds, '--work-dir', work_dir),
    ]


class Spy(Hook):
    """What a frame's prediction and label are, and a stand-in for the source in round 1."""

    priority = 'VERY_HIGH'

    def __init__(self):
        self.areas = []

    def after_test_iter(self, runner, batch_idx, data_batch=None, outputs=()):
        self.latest = []
        for sample in outputs:
            prediction, label = sample.pred_sem_seg.data[0], sample.gt_sem_seg.data[0]
            self.areas.append(class_areas(prediction, label, 4))
            first = sample.metainfo['round'] == 1
            self.latest.append(class_areas(label, label, 4) if first else None)

    def source_areas(self, index):
        return self.latest[index]


@pytest.mark.parametrize('batch_size', [1, 4])
def test_a_line_for_each_frame(stream_runner, tmp_path, batch_size):
    spy = Spy()
    work_dir = tmp_path / 'work'
    work_dir.mkdir()
    (work_dir / 'frame_areas.jsonl').write_text('of an earlier run\n')
    stream_runner([spy, FrameAreasHook()], batch_size=batch_size).test()
    lines = _lines(work_dir / 'frame_areas.jsonl')
    assert [line['round'] for line in lines] == [1] * 8 + [2] * 8
    assert [line['condition'] for line in lines[:8]] == ['fog'] * 4 + ['night'] * 4
    assert lines[1]['frame'] == lines[9]['frame'] == 'data/seq1_f01_leftImg8bit.png'
    for line, areas in zip(lines, spy.areas):
        dense = torch.zeros(3, 4, dtype=torch.int64)
        for index, *column in line['method']:
            dense[:, index] = torch.tensor(column)
        assert torch.equal(dense, areas)
        # The toy data have no label of the last class, and nobody predicts it.
        assert [column[0] for column in line['method']] == [0, 1, 2]
    assert all(i == p == n for line in lines[:8] for _, i, p, n in line['source'])
    assert all(line['source'] is None for line in lines[8:])


def test_frames_without_label_have_no_line(stream_runner, tmp_path):
    stream_runner([FrameAreasHook(out_dir=str(tmp_path / 'x'))], labels=False).test()
    assert (tmp_path / 'x' / 'frame_areas.jsonl').read_text() == ''


def test_without_a_source_there_is_nothing_to_compare_with(stream_runner, tmp_path):
    stream_runner([FrameAreasHook(), ResultsHook(show=False)]).test()
    work_dir = tmp_path / 'work'
    assert all(line['source'] is None for line in _lines(work_dir / 'frame_areas.jsonl'))
    with pytest.raises(ValueError, match='the source and the rounds'):
        load_frame_areas(work_dir, load_results(work_dir))


def test_lines_after_the_state_are_cut_off(stream_runner, tmp_path):
    stream_runner([whole := FrameAreasHook()]).test()
    path = tmp_path / 'work' / 'frame_areas.jsonl'
    text = path.read_bytes()
    kept = len(b''.join(text.splitlines(keepends=True)[:5]))

    class Loads(Hook):
        priority = 35

        def before_test(self, runner):
            whole.load_state_dict({'bytes': kept})

    stream_runner([whole, Loads()]).test()
    assert path.read_bytes() == text[:kept] + text


@pytest.mark.slow
def test_a_stopped_run_ends_with_the_lines_of_a_whole_one(project, tmp_path):  # noqa: F811
    name, *rest = _tta(project, tmp_path / 'stopped', 30)
    with started_tool(name, *rest) as process:
        wait_for_a_state(tmp_path / 'stopped', 120)
        process.send_signal(signal.SIGKILL)
        process.wait(timeout=60)
    assert not (tmp_path / 'stopped' / 'results.json').exists()
    run = run_tool(name, *rest, '--resume')
    assert run.returncode == 0 and 'continuing after frame' in run.stdout + run.stderr
    run = run_tool(*_tta(project, tmp_path / 'whole', 30))
    assert run.returncode == 0, run.stderr
    texts = [(tmp_path / n / 'frame_areas.jsonl').read_bytes() for n in ('stopped', 'whole')]
    assert texts[0] == texts[1] and texts[0].count(b'\n') == 30 * 6
    # The source is scored in the first round alone.
    assert texts[0].count(b'"source":null') == 29 * 6
    found = load_frame_areas(tmp_path / 'whole', load_results(tmp_path / 'whole'))
    assert found.method['fog'].shape == (30, 3, 3, 19)
    assert found.source['fog'].shape == (1, 3, 3, 19)
