"""A stand-in for tools/test_tta.py that runs in no time, dies, fails, or waits to be stopped."""

import time
from pathlib import Path

from ecotta_seg.benchmark import run_folder

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


def calls_of(run):
    path = run_folder(run, 'work') / 'calls.txt'
    return [line.split() for line in path.read_text().splitlines()] if path.exists() else []
