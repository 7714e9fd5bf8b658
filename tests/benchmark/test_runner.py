"""Cells in processes: done, failed, cut off and gone on with; a stand-in for the tool runs them."""

import _thread
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from ecotta_seg.benchmark import (
    MethodSpec,
    ModelSpec,
    collect_runs,
    execute_run,
    execute_runs,
    make_runs,
    run_command,
    run_folder,
)
from ecotta_seg.benchmark.runner import _wait_for_state
from tests.benchmark.conftest import ROOT

KNOWN = ['tent', 'source']
# Does as its config says, and notes how it was called.
TOOL = """
import json, pathlib, sys, time
arguments = sys.argv[1:]
folder = pathlib.Path(arguments[arguments.index('--work-dir') + 1])
with open(folder / 'calls.txt', 'a') as file:
    file.write(' '.join(arguments) + '\\n')
text = pathlib.Path(arguments[0]).read_text()
if "'resume'" in text and '--resume' in arguments:
    print('error: x.pth is the state of another run: code was 1', file=sys.stderr)
    sys.exit(2)
if "'fail'" in text:
    print('working')
    print('error: the disk is full', file=sys.stderr)
    sys.exit(2)
if "'slow'" in text:
    try:
        time.sleep(60)
    except BaseException:
        pass
if "'quiet'" not in text:
    (folder / 'results.json').write_text(pathlib.Path(DOCUMENT).read_text())
"""


@pytest.fixture
def place(tmp_path, document):
    """A function that makes a run whose tool does what ``what`` says, and runs it."""
    (tmp_path / 'document.json').write_text(json.dumps(document(30.0)))
    (tmp_path / 'tool.py').write_text(f'DOCUMENT = {str(tmp_path / "document.json")!r}\n{TOOL}')
    (tmp_path / 'model.pth').write_bytes(b'weights')

    def make(what, **changes):
        config = tmp_path / f'{what}.py'
        config.write_text(f"what = '{what}'\n")
        model = ModelSpec(what, str(config), str(tmp_path / 'model.pth'))
        (run,) = make_runs([model], [MethodSpec.parse('tent', KNOWN)], **changes)
        return run

    def execute(run):
        return execute_run(run, tmp_path / 'work', ROOT / 'configs', tmp_path / 'tool.py')

    def calls(run):
        path = run_folder(run, tmp_path / 'work') / 'calls.txt'
        return path.read_text().splitlines() if path.exists() else []

    make.execute, make.calls, make.path = execute, calls, tmp_path
    return make


def test_a_finished_run_is_skipped(place, capsys):
    run = place('fine')
    assert place.execute(run).status == 'done'
    assert place.execute(run) == ('skipped', 0.0, None, False)
    assert len(place.calls(run)) == 1
    changed = place('fine', rounds=2)
    assert run_folder(changed, place.path / 'work') == run_folder(run, place.path / 'work')
    assert place.execute(changed).status == 'done'
    assert len(place.calls(changed)) == 1 and '--rounds 2' in place.calls(changed)[0]
    folder = run_folder(run, place.path / 'work')
    assert (folder.with_name('seed0.before_1') / 'results.json').is_file()
    assert 'seed0 held a run with other settings, which is now in seed0.before_1' in (
        capsys.readouterr().out
    )
    # Nor is what was put aside earlier lost.
    assert place.execute(place('fine', rounds=3)).status == 'done'
    settings = [
        json.loads((folder.with_name(f'seed0{name}') / 'cell.json').read_text())['rounds']
        for name in ('.before_1', '.before_2', '')
    ]
    assert settings == [None, 2, 3]
    assert len(collect_runs(place.path / 'work', [])) == 1


@pytest.mark.slow
def test_two_processes_of_a_run_exclude_each_other(place):
    """Also where the first was killed and its run goes on alone."""
    run = place('slow')
    process = _in_a_process(place, run)
    process.kill()
    process.wait()
    (pid,) = _at_work_in(run_folder(run, place.path / 'work'))
    try:
        outcome = place.execute(run)
        assert outcome.status == 'failed' and 'another run uses' in outcome.error
        assert len(place.calls(run)) == 1
    finally:
        os.kill(pid, signal.SIGKILL)
    config = Path(run.model.config)
    config.write_text("what = 'fine'\n")
    deadline = time.time() + 30
    while place.execute(run).status == 'failed' and time.time() < deadline:
        time.sleep(0.1)
    assert place.execute(run).status == 'skipped'


def _at_work_in(folder):
    found = []
    for path in Path('/proc').glob('[0-9]*/cmdline'):
        try:
            words = path.read_bytes().decode().split('\0')
        except OSError:
            continue
        if str(folder) in words:
            found.append(int(path.parent.name))
    return found


@pytest.mark.parametrize(
    ('what', 'error'),
    [('fail', 'the disk is full (exit code 2)'), ('quiet', 'ended without complete results')],
)
def test_a_failed_run_tells_why_and_does_not_stop_the_others(place, what, error, capsys):
    runs = [place(what), place('fine')]
    outcomes = execute_runs(runs, place.path / 'work', ROOT / 'configs', place.path / 'tool.py')
    assert [outcomes[run].status for run in runs] == ['failed', 'done']
    assert error in outcomes[runs[0]].error
    said = capsys.readouterr().out.splitlines()
    assert said[0].startswith(f'[1/2] {what}, tent, continual, seed 0: failed')
    assert said[1].startswith('[2/2] fine, tent, continual, seed 0: done')
    # Tried again the next time.
    execute_runs(runs, place.path / 'work', ROOT / 'configs', place.path / 'tool.py')
    assert len(place.calls(runs[0])) == 2 and len(place.calls(runs[1])) == 1


def test_a_run_that_was_cut_off_goes_on(place):
    run = place('fine')
    place.execute(run)
    folder = run_folder(run, place.path / 'work')
    (folder / 'results.json').unlink()
    (folder / 'state').mkdir()
    (folder / 'state' / 'stream_state_rank0_00000020.pth').touch()
    assert place.execute(run).status == 'done'
    assert ['--resume' in call for call in place.calls(run)] == [False, True]


def test_a_state_of_other_code_starts_anew(place):
    run = place('resume')
    place.execute(run)
    folder = run_folder(run, place.path / 'work')
    (folder / 'results.json').unlink()
    (folder / 'state').mkdir()
    (folder / 'state' / 'stream_state_rank0_00000020.pth').touch()
    assert place.execute(run).status == 'done'
    assert ['--resume' in call for call in place.calls(run)] == [False, True, False]


def test_the_command_holds_all_of_a_run(place):
    adapters = place.path / 'model.pth'
    method = MethodSpec.parse(f'tent:optimizer.lr=1e-3,adapters={adapters}', KNOWN)
    run = make_runs(
        [place('fine').model], [method], ['mixed'], [7], rounds=2, views=3, device='cpu',
        options=('model.x=1',),
    )[0]  # fmt: skip
    command = ' '.join(run_command(run, 'tool.py', place.path, True)[1:])
    for part in ('--method tent', '--stream mixed', '--seed 7', '--stream-seed 7', '--rounds 2',
                 '--views 3', '--device cpu', '--resume', '--frame-areas', f'--adapters {adapters}',
                 '--cfg-options model.x=1 adaptation.optimizer.lr=1e-3'):  # fmt: skip
        assert part in command


@pytest.mark.slow
@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM])
def test_a_signal_reaches_the_run_once(place, number):
    run = place('slow')
    process = _in_a_process(place, run)
    os.kill(process.pid, number)
    _, error = process.communicate(timeout=30)
    assert process.returncode and 'KeyboardInterrupt' in error
    # SIGTERM ended the stand-in; nothing of it is left running.
    assert not (run_folder(run, place.path / 'work') / 'results.json').exists()


def _in_a_process(place, run):
    """A process that executes the run, once that is at work."""
    script = place.path / 'script.py'
    script.write_text(
        'import sys\n'
        f'sys.path.insert(0, {str(ROOT)!r})\n'
        'from ecotta_seg.benchmark import *\n'
        f'runs = make_runs([ModelSpec(*{tuple(run.model)!r})], [MethodSpec("tent", "tent")])\n'
        f'execute_runs(runs, {str(place.path / "work")!r}, {str(ROOT / "configs")!r}, '
        f'{str(place.path / "tool.py")!r})\n'
    )
    process = subprocess.Popen(
        [sys.executable, str(script)],
        stderr=subprocess.PIPE,
        text=True,
        # As in a terminal; what a shell runs in the background inherits a SIGINT that is ignored.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    deadline = time.time() + 60
    while not place.calls(run) and time.time() < deadline:
        time.sleep(0.1)
    time.sleep(0.3)
    return process


@pytest.mark.parametrize('interruptible', [True, False])
def test_a_second_interrupt_on_ray_waits_for_the_state(tmp_path, interruptible):
    program = (
        'import pathlib, signal, sys, time\n'
        'def save(*_):\n'
        '    time.sleep(1)\n'
        '    pathlib.Path("state").touch()\n'
        '    sys.exit(143)\n'
        'signal.signal(signal.SIGTERM, save)\n'
        'pathlib.Path("ready").touch()\n'
        'time.sleep(60)\n'
    )
    process = subprocess.Popen([sys.executable, '-c', program], cwd=tmp_path)
    while not (tmp_path / 'ready').exists():
        time.sleep(0.02)
    process.terminate()
    again = threading.Timer(0.3, _thread.interrupt_main)
    again.start()
    if interruptible:
        with pytest.raises(KeyboardInterrupt):
            _wait_for_state(process, interruptible)
        assert not (tmp_path / 'state').exists()
    else:
        _wait_for_state(process, interruptible)
        assert (tmp_path / 'state').exists()
    again.join()
    assert process.wait(30) == 143
