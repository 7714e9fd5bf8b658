"""Runs a function in two forked processes that are ranks 0 and 1 of a gloo group."""

import importlib.util
import os
import socket
import sys
import time
import traceback
from pathlib import Path

SCRIPT = Path(__file__).resolve().parents[1] / 'kill_and_resume.py'
_spec = importlib.util.spec_from_file_location('kill_and_resume', SCRIPT)
harness = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(harness)


def free_port() -> int:
    """A port that nothing listens on."""
    with socket.socket() as listener:
        listener.bind(('127.0.0.1', 0))
        return listener.getsockname()[1]


def in_two(function, folder: Path, *args, timeout: float = 120.0, **kwargs) -> None:
    """Runs ``function(*args, **kwargs)`` on both ranks; their tracebacks are the error."""
    port, pids = str(free_port()), []
    for rank in range(2):
        pid = os.fork()
        if pid:
            pids.append(pid)
            continue
        try:
            os.environ.update(
                RANK=str(rank),
                LOCAL_RANK=str(rank),
                WORLD_SIZE='2',
                MASTER_ADDR='127.0.0.1',
                MASTER_PORT=port,
            )
            sys.stdout = sys.stderr = open(os.devnull, 'w')
            function(*args, **kwargs)
            os._exit(0)
        except BaseException:
            (folder / f'error{rank}.txt').write_text(traceback.format_exc())
            os._exit(1)
    end, codes = time.monotonic() + timeout, {}
    while len(codes) < 2 and time.monotonic() < end:
        for pid in set(pids) - set(codes):
            done, status = os.waitpid(pid, os.WNOHANG)
            if done:
                codes[pid] = os.waitstatus_to_exitcode(status)
        time.sleep(0.05)
    for pid in set(pids) - set(codes):
        os.kill(pid, 9)
        os.waitpid(pid, 0)
    errors = [path.read_text() for path in sorted(folder.glob('error?.txt'))]
    assert not errors, '\n'.join(errors)
    assert list(codes.values()) == [0, 0], f'hung or died: {codes}'
