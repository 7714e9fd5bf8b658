"""Runs as jobs: lost jobs, time limits, failures, stops. Stand-ins are the tool and SLURM."""

import os
import signal
import stat
import sys
import threading
from pathlib import Path

import pytest

from ecotta_seg.benchmark import SlurmOptions, execute_runs_on_slurm, run_folder, slurm_engine
from ecotta_seg.benchmark.slurm_engine import FOLDER, jobs_at_once, parse_sbatch
from tests.benchmark.conftest import ROOT
from tests.benchmark.stand_in import alive, calls_of, wait_for

pytest.importorskip('submitit', reason='needs submitit')
PLACE = ('work', ROOT / 'configs', 'tool.py')
# They do as SLURM's programs do, as far as submitit uses them.
SLURM = {
    'sbatch': 'echo $$ >> $HOME/jobs; n=$(wc -l < $HOME/jobs); cp $1 $HOME/$n.sh\n'
    'if grep -q partition=none $1; then echo "sbatch: error: invalid partition" >&2; exit 1; fi\n'
    'SLURM_JOB_ID=$n setsid bash $1 > $HOME/$n.txt 2>&1 &\n'
    'echo $! > $HOME/$n.pid; echo Submitted batch job $n',
    'srun': 'while [ "${1#--}" != "$1" ]; do case $1 in --output|--error) shift;; esac; shift; '
    'done\nexport SLURM_PROCID=0; exec "$@"',
    'squeue': 'for f in $HOME/*.pid; do kill -0 $(cat $f) 2>/dev/null && basename $f .pid; done\n'
    'true',
    'scancel': 'kill -TERM -$(cat $HOME/$1.pid)',
}


@pytest.fixture
def slurm(tmp_path, monkeypatch):
    """A folder with programs that stand for SLURM's, and with what they note."""
    home = tmp_path / 'slurm'
    home.mkdir()
    for name, text in SLURM.items():
        path = home / name
        path.write_text(f'#!/bin/bash\nHOME={home}\n{text}\n')
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setattr(slurm_engine, '_SECONDS_BETWEEN_QUEUES', 0.5)
    monkeypatch.setenv('PATH', f'{home}{os.pathsep}{os.environ["PATH"]}')
    return home


def run_when_ready(run, act):
    """Starts a thread that calls a function when the tool of a run is at work."""

    def wait():
        wait_for((run_folder(run, 'work') / 'ready').exists)
        act()

    thread = threading.Thread(target=wait)
    thread.start()
    return thread


def execute(runs, local=True, **options):
    ended = []
    outcomes = execute_runs_on_slurm(
        runs, *PLACE, lambda run, outcome: ended.append(run), SlurmOptions(local, **options)
    )
    assert sorted(map(str, ended)) == sorted(map(str, runs))
    return outcomes


@pytest.mark.slow
@pytest.mark.parametrize('local', [True, False])
def test_a_lost_job_a_killed_run_and_a_failure(place, slurm, capfd, local):
    long, dies, fail, fine = runs = place('long', 'dies', 'fail', 'fine')
    # The parent of the tool is the job itself.
    killer = run_when_ready(long, lambda: os.kill(int(calls_of(long)[0][1]), signal.SIGKILL))
    outcomes = execute(runs, local, workers=2)
    killer.join()
    assert [outcomes[run].status for run in (long, dies, fine)] == ['done'] * 3
    assert outcomes[fail].status == 'failed' and 'the disk is full' in outcomes[fail].error
    (first, second) = calls_of(long)
    assert '--resume' not in first and '--resume' in second and not alive(first[0])
    assert len(calls_of(dies)) == 2 and len(calls_of(fail)) == len(calls_of(fine)) == 1
    assert all(call[2] == '/data/of/this/machine' for call in (first, second))
    said = capfd.readouterr().out
    assert '[4/4]' in said and 'fail, tent, continual, seed 0: failed, the disk is full' in said


@pytest.mark.slow
def test_at_the_time_limit_the_run_saves_and_the_job_is_requeued(place):
    (run,) = place('long')
    # The signal that SLURM sends before the limit.
    limit = run_when_ready(run, lambda: os.kill(int(calls_of(run)[0][1]), signal.SIGUSR2))
    assert execute([run])[run].status == 'done'
    limit.join()
    (first, second) = calls_of(run)
    assert '--resume' not in first and '--resume' in second and not alive(first[0])
    # submitit requeued it: there was one submission.
    assert len(list(Path('work', FOLDER).glob('*/*'))) == 1


@pytest.mark.slow
@pytest.mark.parametrize('local', [True, False])
def test_a_stop_lets_runs_save(place, slurm, local):
    (run,) = place('long')
    before = signal.getsignal(signal.SIGTERM)
    stopper = run_when_ready(run, lambda: os.kill(os.getpid(), signal.SIGTERM))
    with pytest.raises(KeyboardInterrupt):
        execute([run], local)
    stopper.join()
    assert signal.getsignal(signal.SIGTERM) is before
    (call,) = calls_of(run)
    wait_for(lambda: not alive(call[0]))
    assert len(list((run_folder(run, 'work') / 'state').iterdir())) == 1


@pytest.mark.slow
def test_what_sbatch_is_given(place, slurm):
    runs = place('fine', 'dies')
    options = dict(cpus=3, gpus=2, sbatch=parse_sbatch(['partition=long', 'time=90', 'exclusive']))
    outcomes = execute(runs, local=False, **options)
    assert [outcome.status for outcome in outcomes.values()] == ['done'] * 2
    # Two runs, and the one again whose tool was killed.
    scripts = sorted(slurm.glob('*.sh'))
    assert len(scripts) == 3
    for script in scripts:
        flags = [line[8:] for line in script.read_text().splitlines() if line[:8] == '#SBATCH ']
        assert {'--partition=long', '--time=90', '--exclusive', '--cpus-per-task=3'} <= set(flags)
        assert '--gpus-per-node=2' in flags and '--nodes=1' in flags
        assert sys.executable in script.read_text()


def test_what_sbatch_refuses_is_one_sentence(place, slurm):
    runs = place('fine')
    with pytest.raises(ValueError, match='cannot be submitted: sbatch: error: invalid partition'):
        execute(runs, local=False, sbatch={'partition': 'none'})
    assert not (run_folder(runs[0], 'work')).exists()


def test_the_number_of_jobs_at_once(monkeypatch):
    monkeypatch.setattr(os, 'cpu_count', lambda: 8)
    assert jobs_at_once(SlurmOptions(local=True, cpus=3), 100) == 2
    assert jobs_at_once(SlurmOptions(local=True, cpus=16), 100) == 1
    assert jobs_at_once(SlurmOptions(cpus=3), 100) == 100
    assert jobs_at_once(SlurmOptions(workers=5), 100) == 5
