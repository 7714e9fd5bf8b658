"""tools/benchmark_methods.py end to end: two methods, one that fails, and a second call."""

import json
import signal

import cv2
import pytest

from tests.tools.conftest import error_of, run_tool, started_tool, wait_for_a_state


@pytest.mark.slow
def test_a_benchmark_and_its_second_call(project, tmp_path):
    arguments = [
        'benchmark_methods', '--model', 'small', project.config, project.checkpoint,
        '--methods', 'source', 'tent:optimizer.lr=0.01', 'tent:optimizer.lrr=1',
        '--streams', 'mixed', '--seeds', 1, '--work-dir', tmp_path,
    ]  # fmt: skip
    run = run_tool(*arguments)
    assert run.returncode == 1, run.stderr
    assert '1 of 3 runs failed' in run.stderr and 'Traceback' not in run.stderr
    assert '[3/3] small, tent:optimizer.lrr=1, mixed, seed 1: failed' in run.stdout
    document = json.loads((tmp_path / 'benchmark.json').read_text())
    source, tent, failed = document['cells']
    assert source['error'] is None and tent['error'] is None
    assert 'lrr' in failed['error']
    assert source['mean'] == source['source_mean'] == tent['source_mean'] != tent['mean']
    assert len(tent['rounds']) == 2 and len(tent['conditions']) == 2
    assert all(tent[name] is not None for name in ('forgetting', 'seconds', 'peak_bytes'))
    assert tent['peak_bytes'] > source['peak_bytes']
    # The source is no better than itself on any draw of its frames.
    nothing = dict(difference=0.0, low=0.0, high=0.0, frames=3.0)
    assert source['paired']['mean'] == nothing and list(source['paired']['conditions']) != []
    paired = tent['paired']['mean']
    assert paired['difference'] == pytest.approx(tent['mean'] - tent['source_mean'])
    assert paired['low'] <= paired['difference'] <= paired['high'] and paired['low'] != 0
    page = (tmp_path / 'benchmark.md').read_text()
    assert '### Difference to the source on the same frames' in page
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


@pytest.mark.slow
def test_a_config_of_the_package_and_a_preset_of_ones_own(project, tmp_path):
    preset = tmp_path / 'mine.py'
    preset.write_text("adaptation = dict(type='tent', optimizer=dict(type='SGD', lr=1e-3))\n")
    run = run_tool(
        'benchmark_methods', '--model', 'demo', 'ecotta_seg::demo.py', project.checkpoint,
        '--methods', 'source', preset, f'{preset}:optimizer.lr=0.1', '--dry-run',
        '--work-dir', tmp_path / 'work',
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    assert run.stdout.splitlines()[-3:] == [
        'new      demo, source, continual, seed 0',
        'new      demo, mine.py, continual, seed 0',
        'new      demo, mine.py:optimizer.lr=0.1, continual, seed 0',
    ]


def test_mistakes_are_one_sentence(project, tmp_path):
    model = ['--model', 'small', project.config, project.checkpoint, '--work-dir', tmp_path]
    run = run_tool('benchmark_methods', *model, '--methods', 'tant')
    assert '--method tant: expected one of' in error_of(run)
    model[3] = tmp_path / 'none.pth'
    run = run_tool('benchmark_methods', *model, '--methods', 'tent')
    assert 'none.pth does not exist' in error_of(run)
    assert not (tmp_path / 'cells').exists()


@pytest.mark.slow
def test_a_report_of_some_runs_has_nothing_of_other_settings(project, tmp_path):
    arguments = [
        'benchmark_methods', '--model', 'small', project.config, project.checkpoint,
        '--methods', 'source', 'tent', '--work-dir', tmp_path,
    ]  # fmt: skip
    assert run_tool(*arguments, '--rounds', 1).returncode == 0
    tent = tmp_path / 'cells' / 'small' / 'continual' / 'tent'
    with started_tool(*arguments, '--rounds', 40) as process:
        # From here on Tent is the one that runs, and the report is of the source.
        wait_for_a_state(tent / 'seed0', 300)
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=60) == 130
    assert (tent / 'seed0.before_1' / 'results.json').is_file()
    source, other = json.loads((tmp_path / 'benchmark.json').read_text())['cells']
    assert source['error'] is None and len(source['rounds']) == 40
    assert other['error'] == 'not run yet' and 'rounds' not in other


@pytest.mark.slow
def test_a_model_whose_config_cannot_be_read_stops_no_other(project, tmp_path):
    broken = tmp_path / 'broken.py'
    broken.write_text("_base_ = ['none.py']\n")
    run = run_tool(
        'benchmark_methods', '--model', 'broken', broken, project.checkpoint,
        '--model', 'small', project.config, project.checkpoint,
        '--methods', 'source', '--rounds', 1, '--work-dir', tmp_path / 'work',
    )  # fmt: skip
    assert run.returncode == 1, run.stderr
    failed, done = json.loads((tmp_path / 'work' / 'benchmark.json').read_text())['cells']
    assert 'broken.py' in failed['error'] and done['error'] is None


@pytest.mark.slow
def test_a_run_that_was_stopped_goes_on_and_ends_as_if_it_had_not_been(project, tmp_path):
    def arguments(work_dir):
        return [
            'benchmark_methods', '--model', 'small', project.config, project.checkpoint,
            '--methods', 'tent:optimizer.lr=0.01', '--rounds', 30, '--work-dir', work_dir,
        ]  # fmt: skip

    name, *rest = arguments(tmp_path / 'stopped')
    folder = (
        tmp_path / 'stopped' / 'cells' / 'small' / 'continual' / 'tent_optimizer.lr=0.01' / 'seed0'
    )
    with started_tool(name, *rest) as process:
        wait_for_a_state(folder, 300)
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=60) == 130
    assert not (folder / 'results.json').exists()
    run = run_tool(*arguments(tmp_path / 'stopped'), '--dry-run')
    assert run.stdout.splitlines()[-1].startswith('started ')
    assert run_tool(*arguments(tmp_path / 'stopped')).returncode == 0
    commands = [x for x in (folder / 'log.txt').read_text().splitlines() if x.startswith('$ ')]
    assert [command.endswith(' --resume') for command in commands] == [False, True]
    assert run_tool(*arguments(tmp_path / 'whole')).returncode == 0
    found = [
        json.loads((tmp_path / which / 'benchmark.json').read_text())['cells'][0]
        for which in ('stopped', 'whole')
    ]
    timed = ('seconds', 'source_seconds', 'harness_share', 'folder')
    first, second = [{k: v for k, v in record.items() if k not in timed} for record in found]
    assert first == second and first['mean'] is not None and len(first['rounds']) == 30
