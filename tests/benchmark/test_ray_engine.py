"""Cells on a Ray cluster of this machine: lost workers, failures, stops. A stand-in runs them."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import pytest

from ecotta_seg.benchmark import (
    MethodSpec,
    ModelSpec,
    RayOptions,
    execute_runs_on_ray,
    make_runs,
    run_folder,
)
from tests.benchmark.conftest import ROOT

ray = pytest.importorskip('ray', reason='needs ray')
# Does as its config says, and notes how it was called.
TOOL = """
import json, os, pathlib, signal, sys, time
arguments = sys.argv[1:]
folder = pathlib.Path(arguments[arguments.index('--work-dir') + 1])
calls = folder / 'calls.txt'
with open(calls, 'a') as file:
    root = os.environ.get('SOME_ROOT')
    file.write(f'{os.getpid()} {os.getppid()} {root} {" ".join(arguments)}\\n')
text = pathlib.Path(arguments[0]).read_text()
first = len(calls.read_text().splitlines()) == 1
if "'fail'" in text:
    print('error: the disk is full', file=sys.stderr)
    sys.exit(2)
if "'dies'" in text and first:
    os.kill(os.getpid(), signal.SIGKILL)
if "'long'" in text and '--resume' not in arguments:
    def save(*_):
        (folder / 'state').mkdir()
        (folder / 'state' / 'stream_state_rank0_00000020.pth').touch()
        sys.exit(143)
    signal.signal(signal.SIGTERM, save)
    (folder / 'ready').touch()
    time.sleep(600)
(folder / 'results.json').write_text(pathlib.Path(DOCUMENT).read_text())
"""


def alive(pid):
    try:
        state = Path(f'/proc/{pid}/stat').read_text().rpartition(')')[2].split()[0]
    except OSError:
        return False
    return state != 'Z'


def wait_for(condition, seconds=240):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


@pytest.fixture
def place(tmp_path, document, monkeypatch):
    """A function that makes runs whose tool does what the names say."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv('SOME_ROOT', '/data/of/this/machine')
    monkeypatch.setenv('PYTHONPATH', str(ROOT))
    Path('document.json').write_text(json.dumps(document(30.0)))
    Path('tool.py').write_text(f'DOCUMENT = {str(tmp_path / "document.json")!r}\n{TOOL}')
    Path('model.pth').write_bytes(b'weights')

    def make(*names):
        models = []
        for name in names:
            root = "root = '{{$SOME_ROOT:data}}'"
            Path(f'{name}.py').write_text(f"what = '{name}'\n{root}\n")
            # Relative paths: a worker is in another folder.
            models.append(ModelSpec(name, f'{name}.py', 'model.pth'))
        return make_runs(models, [MethodSpec('tent', 'tent')], device='cpu')

    return make


def calls_of(run):
    path = run_folder(run, 'work') / 'calls.txt'
    return [line.split() for line in path.read_text().splitlines()] if path.exists() else []


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
