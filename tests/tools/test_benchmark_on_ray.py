"""tools/benchmark_methods.py --engine ray: the table of one machine, also after a lost worker."""

import json
import os
import signal
import time
from pathlib import Path

import pytest

from tests.tools.conftest import error_of, run_tool, started_tool, wait_for_a_state

pytest.importorskip('ray', reason='needs ray')
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


@pytest.mark.slow
def test_the_table_is_that_of_one_machine_also_after_a_lost_worker(project, tmp_path):
    name, *rest = arguments(project, tmp_path / 'ray')
    folder = tmp_path / 'ray/cells/small/continual/tent_optimizer.lr=0.01/seed0'
    with started_tool(name, *rest, '--engine', 'ray', '--workers', 2) as process:
        wait_for_a_state(folder, 240)
        os.kill(worker_of(folder), signal.SIGKILL)
        assert process.wait(timeout=240) == 0
    commands = [x for x in (folder / 'log.txt').read_text().splitlines() if x.startswith('$ ')]
    assert [command.endswith(' --resume') for command in commands] == [False, True]
    assert run_tool(*arguments(project, tmp_path / 'here')).returncode == 0
    for file in ('benchmark.csv', 'paired.csv'):
        assert (tmp_path / 'ray' / file).read_bytes() == (tmp_path / 'here' / file).read_bytes()
    found = [
        json.loads((tmp_path / which / 'benchmark.json').read_text())['cells']
        for which in ('ray', 'here')
    ]
    first, second = [[{k: v for k, v in c.items() if k not in TIMED} for c in f] for f in found]
    assert first == second and [len(record['rounds']) for record in first] == [12, 12]
    # The cluster has ended with the tool.
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
    (('--workers', 2), '--workers needs --engine ray'),
    (('--engine', 'ray', '--address', 'auto', '--workers', 2), 'leave out --workers or --address'),
    (('--engine', 'ray', '--gpus-per-run', '-1'), 'expected a number from 0'),
    (('--engine', 'dask'), 'invalid choice'),
])  # fmt: skip
def test_mistakes_are_one_sentence(project, tmp_path, options, text):
    assert text in error_of(run_tool(*arguments(project, tmp_path), *options))
    assert not list(tmp_path.iterdir())
