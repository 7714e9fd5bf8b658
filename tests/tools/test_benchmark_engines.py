"""benchmark_methods.py --engine ray and slurm: the table of one machine, also after a loss."""

import json
import os
import signal
import time
from pathlib import Path

import pytest

from tests.tools.conftest import error_of, run_tool, started_tool, wait_for_a_state

ENGINES = {
    'ray': ('--engine', 'ray', '--workers', 2),
    'slurm': ('--engine', 'slurm', '--address', 'local', '--workers', 2),
}
MODULES = {'ray': 'ray', 'slurm': 'submitit'}
TIMED = ('seconds', 'source_seconds', 'harness_share', 'folder')


def arguments(project, work_dir):
    return [
        'benchmark_methods', '--model', 'small', project.config, project.checkpoint, '--methods',
        'source', 'tent:optimizer.lr=0.01', '--rounds', 12, '--work-dir', work_dir,
    ]  # fmt: skip


def worker_of(folder):
    """The process that started the run in its folder."""
    for path in Path('/proc').glob('[0-9]*'):
        try:
            words = (path / 'cmdline').read_bytes().decode().split('\0')
            if str(folder) in words:
                return int((path / 'stat').read_text().rpartition(')')[2].split()[1])
        except OSError:
            continue
    raise AssertionError(f'nothing is at work in {folder}')


@pytest.fixture(scope='module')
def one_after_the_other(project, tmp_path_factory):
    folder = tmp_path_factory.mktemp('here')
    assert run_tool(*arguments(project, folder)).returncode == 0
    return folder


@pytest.mark.slow
@pytest.mark.parametrize('engine', ENGINES)
def test_the_table_is_that_of_one_machine_also_after_a_loss(
    project, one_after_the_other, tmp_path, engine
):
    pytest.importorskip(MODULES[engine], reason=f'needs {MODULES[engine]}')
    name, *rest = arguments(project, tmp_path / 'many')
    folder = tmp_path / 'many/cells/small/continual/tent_optimizer.lr=0.01/seed0'
    with started_tool(name, *rest, *ENGINES[engine]) as process:
        wait_for_a_state(folder, 600)
        os.kill(worker_of(folder), signal.SIGKILL)
        assert process.wait(timeout=600) == 0
    commands = [x for x in (folder / 'log.txt').read_text().splitlines() if x.startswith('$ ')]
    assert [command.endswith(' --resume') for command in commands] == [False, True]
    places = (tmp_path / 'many', one_after_the_other)
    for file in ('benchmark.csv', 'paired.csv'):
        assert (places[0] / file).read_bytes() == (places[1] / file).read_bytes()
    found = [json.loads((place / 'benchmark.json').read_text())['cells'] for place in places]
    first, second = [[{k: v for k, v in c.items() if k not in TIMED} for c in f] for f in found]
    assert first == second and [len(record['rounds']) for record in first] == [12, 12]
    # The cluster, or the last job, has ended with the tool.
    end = time.monotonic() + 30
    while _processes_with(str(tmp_path)):
        assert time.monotonic() < end
        time.sleep(0.1)


def _processes_with(text):
    found = []
    for path in Path('/proc').glob('[0-9]*/cmdline'):
        try:
            found += [path] if text in path.read_bytes().decode() else []
        except OSError:
            pass
    return found


@pytest.mark.parametrize(('options', 'text'), [
    (('--workers', 2), '--workers needs --engine ray or --engine slurm'),
    (('--engine', 'ray', '--sbatch', 'time=9'), '--sbatch needs --engine slurm'),
    (('--engine', 'slurm'), 'has no sbatch and srun; start the tool where'),
    (('--engine', 'slurm', '--address', 'auto'), 'with --engine slurm, expected local'),
    (('--engine', 'slurm', '--address', 'local', '--gpus-per-run', 0.5), 'SLURM gives whole GPUs'),
    (('--engine', 'slurm', '--address', 'local', '--sbatch', 'time=1:00'), 'expected minutes'),
    (('--engine', 'ray', '--address', 'auto', '--workers', 2), 'leave out --workers or --address'),
    (('--engine', 'ray', '--gpus-per-run', '-1'), 'expected a number from 0'),
    (('--engine', 'dask'), 'invalid choice'),
])  # fmt: skip
def test_mistakes_are_one_sentence(project, tmp_path, options, text):
    assert text in error_of(run_tool(*arguments(project, tmp_path), *options))
    assert not list(tmp_path.iterdir())
