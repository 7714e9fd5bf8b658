"""Cells on a Ray cluster of this machine: lost workers, failures, stops. A stand-in runs them."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import pytest

from ecotta_seg.benchmark import RayOptions, execute_runs_on_ray, run_folder
from tests.benchmark.conftest import ROOT
from tests.benchmark.stand_in import alive, calls_of, wait_for

ray = pytest.importorskip('ray', reason='needs ray')


@pytest.mark.slow
def test_a_lost_worker_a_killed_run_and_a_failure(place, capfd):
    runs = place('long', 'dies', 'fail', 'fine')
    long, dies, fail, fine = runs

    def kill_the_worker():
        wait_for((run_folder(long, 'work') / 'ready').exists)
        os.kill(int(calls_of(long)[0][1]), signal.SIGKILL)

    killer = threading.Thread(target=kill_the_worker)
    killer.start()
    ended = []
    place_of = ('work', ROOT / 'configs', 'tool.py')
    outcomes = execute_runs_on_ray(
        runs, *place_of, lambda run, outcome: ended.append(run), RayOptions(workers=2)
    )
    killer.join()
    assert sorted(map(str, ended)) == sorted(map(str, runs)) and not ray.is_initialized()
    assert [outcomes[run].status for run in (long, dies, fine)] == ['done'] * 3
    assert outcomes[fail].status == 'failed' and 'the disk is full' in outcomes[fail].error
    # The worker that is gone took its run with it, whose state a second one has gone on from.
    (first, second) = calls_of(long)
    assert '--resume' not in first and '--resume' in second and not alive(first[0])
    assert len(calls_of(dies)) == 2 and len(calls_of(fail)) == len(calls_of(fine)) == 1
    assert all(call[2] == '/data/of/this/machine' for call in (first, second))
    said = capfd.readouterr().out
    assert '[4/4]' in said and 'fail, tent, continual, seed 0: failed, the disk is full' in said


@pytest.mark.slow
def test_a_stop_lets_runs_save(place, monkeypatch):
    (run,) = place('long')

    def stop():
        wait_for((run_folder(run, 'work') / 'ready').exists)
        os.kill(os.getpid(), signal.SIGTERM)

    stopper = threading.Thread(target=stop)
    stopper.start()
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt):
        execute_runs_on_ray(
            [run], 'work', ROOT / 'configs', 'tool.py', options=RayOptions(workers=1)
        )
    stopper.join()
    assert signal.getsignal(signal.SIGTERM) is before and not ray.is_initialized()
    (call,) = calls_of(run)
    wait_for(lambda: not alive(call[0]))
    assert len(list((run_folder(run, 'work') / 'state').iterdir())) == 1


@pytest.mark.slow
def test_what_no_machine_has_room_for_is_refused(place):
    runs = place('fine')
    with pytest.raises(ValueError, match='no machine of the Ray cluster has room .* 1 GPUs'):
        execute_runs_on_ray(
            runs, 'work', ROOT / 'configs', 'tool.py', options=RayOptions(workers=1, gpus=1)
        )
    assert not ray.is_initialized() and not Path('work').exists()
    with pytest.raises(ValueError, match='--address 127.0.0.1:1: no Ray cluster can be joined'):
        execute_runs_on_ray(
            runs, 'work', ROOT / 'configs', 'tool.py', options=RayOptions(address='127.0.0.1:1')
        )


@pytest.mark.slow
def test_a_cluster_that_is_there_is_joined_and_stays(place, tmp_path, monkeypatch):
    # 'auto' means the cluster that this folder names, and no other one on the machine. The path is
    # short: Ray's sockets are in it.
    with tempfile.TemporaryDirectory(prefix='ray') as folder, socket.socket() as free:
        monkeypatch.setenv('RAY_TMPDIR', folder)
        free.bind(('127.0.0.1', 0))
        port = str(free.getsockname()[1])
        free.close()
        cluster = subprocess.Popen(
            [sys.executable, '-m', 'ray.scripts.scripts', 'start', '--head', '--block', '--port',
             port, '--num-cpus', '1', '--include-dashboard', 'false'],
            # In another folder, and without this one's variables.
            cwd=tmp_path.parent,
            env={k: v for k, v in os.environ.items() if k != 'SOME_ROOT'},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )  # fmt: skip
        try:
            wait_for(lambda: list(Path(folder).rglob('ray_current_cluster')), 120)
            runs = place('fine')
            outcomes = execute_runs_on_ray(
                runs, 'work', ROOT / 'configs', 'tool.py', options=RayOptions(address='auto')
            )
            assert outcomes[runs[0]].status == 'done'
            (call,) = calls_of(runs[0])
            assert call[2] == '/data/of/this/machine'
            assert cluster.poll() is None
        finally:
            cluster.terminate()
            try:
                cluster.wait(timeout=60)
            finally:
                # What it started and left, by its session: no process of anybody else.
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(cluster.pid, signal.SIGKILL)
