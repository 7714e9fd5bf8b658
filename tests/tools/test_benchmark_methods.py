"""tools/benchmark_methods.py end to end: two methods, one that fails, and a second call."""

import json

import cv2

from tests.tools.conftest import error_of, run_tool


def test_a_benchmark_and_its_second_call(project, tmp_path):
    arguments = [
        'benchmark_methods', '--model', 'small', project.config, project.checkpoint,
        '--methods', 'source', 'tent:optimizer.lr=0.01', 'tent:optimizer.lrr=1',
        '--streams', 'mixed', '--seeds', 1, '--work-dir', tmp_path,
    ]  # fmt: skip
    run = run_tool(*arguments)
    assert run.returncode == 1, run.stderr
    assert '1 of 3 cells failed' in run.stderr and 'Traceback' not in run.stderr
    assert '[3/3] small, tent:optimizer.lrr=1, mixed, seed 1: failed' in run.stdout
    document = json.loads((tmp_path / 'benchmark.json').read_text())
    source, tent, failed = document['cells']
    assert source['error'] is None and tent['error'] is None
    assert 'lrr' in failed['error']
    assert source['mean'] == source['source_mean'] == tent['source_mean'] != tent['mean']
    assert len(tent['rounds']) == 2 and len(tent['conditions']) == 2
    assert all(tent[name] is not None for name in ('forgetting', 'seconds', 'peak_bytes'))
    assert tent['peak_bytes'] > source['peak_bytes']
    page = (tmp_path / 'benchmark.md').read_text()
    assert '## small, mixed stream' in page and 'Not in the tables' in page
    for name in ('rounds.png', 'memory.png'):
        assert cv2.imread(str(tmp_path / name)) is not None

    arguments.remove('tent:optimizer.lrr=1')
    run = run_tool(*arguments, '--collect')
    assert run.returncode == 0, run.stderr
    assert run.stdout.count('skipped') == 2
    run = run_tool(*arguments, '--dry-run')
    assert run.stdout.splitlines()[-2:] == [
        'done     small, source, mixed, seed 1',
        'done     small, tent:optimizer.lr=0.01, mixed, seed 1',
    ]


def test_mistakes_are_one_sentence(project, tmp_path):
    model = ['--model', 'small', project.config, project.checkpoint, '--work-dir', tmp_path]
    run = run_tool('benchmark_methods', *model, '--methods', 'tant')
    assert "unknown method 'tant'" in error_of(run)
    model[3] = tmp_path / 'none.pth'
    run = run_tool('benchmark_methods', *model, '--methods', 'tent')
    assert 'none.pth does not exist' in error_of(run)
    assert not (tmp_path / 'cells').exists()
