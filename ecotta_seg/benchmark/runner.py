"""Executes the runs of a benchmark, one after the other, each in its own process.

With one process per run, a crash or a lack of memory affects no other run, and each run can measure
the peak memory of its own process.
"""

import json
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Callable, NamedTuple, Optional, Union

from ..files.atomic_io import atomic_write
from .runs import RUN_FILE, BenchmarkRun, run_folder, run_settings, run_status

try:
    import fcntl
except ImportError:  # Not on Windows.
    fcntl = None

LOG_FILE = 'log.txt'
_OTHER_RUN = 'is the state of another run'
# Linux sends SIGTERM to this process when its parent dies (prctl's PR_SET_PDEATHSIG, which exec
# keeps). The process then becomes the tool.
_TIED = (
    'import ctypes, os, sys; ctypes.CDLL(None).prctl(1, 15); '
    'os.execv(sys.executable, [sys.executable, *sys.argv[1:]])'
)
SECONDS_TO_SAVE = 120


class Outcome(NamedTuple):
    """The outcome of a run.

    Attributes:
        status: ``'done'``, ``'skipped'`` (done before) or ``'failed'``.
        seconds: Duration of this call.
        error: One sentence if the run failed, else None.
        died: Whether the process was killed from outside, so that a retry may succeed.
    """

    status: str
    seconds: float = 0.0
    error: Optional[str] = None
    died: bool = False


def run_command(run: BenchmarkRun, tool: Union[str, Path], folder: Path, resume: bool) -> list[str]:
    """The command line of a run, for ``tools/test_tta.py``."""
    command = [sys.executable, str(tool), run.model.config, run.model.checkpoint]
    command += ['--method', run.method.name, '--stream', run.stream]
    command += ['--seed', str(run.seed), '--stream-seed', str(run.seed)]
    for name, value in (
        ('rounds', run.rounds),
        ('views', run.views),
        ('adapters', run.adapters),
        ('device', run.device),
    ):
        if value is not None:
            command += [f'--{name}', str(value)]
    command += ['--work-dir', str(folder), '--frame-areas']
    options = [*run.options, *(f'adaptation.{option}' for option in run.method.options)]
    if options:
        command += ['--cfg-options', *options]
    return command + (['--resume'] if resume else [])


def execute_run(
    run: BenchmarkRun,
    work_dir: Union[str, Path],
    configs: Union[str, Path],
    tool: Union[str, Path],
    show: Callable[[str], None] = lambda text: None,
    tied: bool = False,
    patience: float = 0.0,
    started: Callable[[subprocess.Popen], None] = lambda process: None,
) -> Outcome:
    """Executes a run, resumes an interrupted one, or skips a finished one.

    Args:
        run: The run.
        work_dir: The work dir of the benchmark.
        configs: The folder ``configs``.
        tool: Path of ``tools/test_tta.py``.
        show: Called with a short progress text from time to time.
        tied: What the run does if this process is killed. True: the run saves its state and ends
            (on Linux only). False: the run continues to its end.
        patience: Seconds to wait if another process executes the same run.
        started: Called with the process of the run right after its start.

    Returns:
        The outcome. If the run fails, no exception is raised.
    """
    start = time.perf_counter()
    folder = run_folder(run, work_dir)
    died = False
    try:
        with _alone(folder, patience) as lock:
            settings = run_settings(run, configs)
            status = run_status(folder, settings)
            if status == 'done':
                return Outcome('skipped')
            if status == 'other':
                put_aside(folder)
            folder.mkdir(parents=True, exist_ok=True)
            # From here on, the folder's files belong to these settings.
            (folder / 'results.json').unlink(missing_ok=True)
            with atomic_write(folder / RUN_FILE) as temporary:
                temporary.write_text(json.dumps(settings, indent=2) + '\n', encoding='utf-8')
            command = run_command(run, tool, folder, status == 'started')
            error, died = _run(command, folder, show, lock, tied, started)
            if error and status == 'started' and _OTHER_RUN in error:
                show('its state belongs to other code, starting again')
                command = run_command(run, tool, folder, False)
                error, died = _run(command, folder, show, lock, tied, started)
            if not error and run_status(folder, settings) != 'done':
                error = f'the run ended without complete results; see {folder / LOG_FILE}'
    except (OSError, ValueError) as problem:
        error = str(problem)
    return Outcome('failed' if error else 'done', time.perf_counter() - start, error, died)


def put_aside(folder: Path) -> None:
    """Renames a run's folder to ``seedN.before_1`` (``_2``, ...) instead of deleting results."""
    number = 1
    while (aside := folder.with_name(f'{folder.name}.before_{number}')).exists():
        number += 1
    folder.rename(aside)
    print(f'{folder} held a run with other settings, which is now in {aside.name}', flush=True)


@contextmanager
def _alone(folder: Path, patience: float = 0.0) -> Iterator[int]:
    """Locks a run for one process; yields the file descriptor of the lock for a child process.

    Waits for another process for at most ``patience`` seconds.

    Raises:
        ValueError: Another process holds the lock.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    # The lock file is beside the folder, because the folder may be renamed.
    with open(folder.with_name(f'.{folder.name}.lock'), 'w') as file:
        end = time.monotonic() + patience
        while fcntl is not None:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() < end:
                    time.sleep(0.2)
                    continue
                raise ValueError(f'another run uses {folder}: wait for it, or stop it') from None
            except OSError:
                pass  # A file system without locks.
            break
        yield file.fileno()


def _run(
    command: list[str],
    folder: Path,
    show: Callable[[str], None],
    lock: int,
    tied: bool,
    started: Callable[[subprocess.Popen], None],
) -> tuple[Optional[str], bool]:
    """Runs a command; returns the error message (or None) and whether the process was killed."""
    with open(folder / LOG_FILE, 'a', encoding='utf-8') as log:
        log.write(f'$ {" ".join(command)}\n')
        log.flush()
        if tied and sys.platform == 'linux':
            command = [sys.executable, '-c', _TIED, *command[1:]]
        begin = log.tell()
        # The process has its own session: this process passes a Ctrl-C on once, and the run saves
        # its state. It also holds the lock: if this process is killed and the run continues, no
        # second process of the same run can start.
        process = subprocess.Popen(
            command,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            pass_fds=(lock,) if fcntl is not None else (),
        )
        try:
            started(process)
            while process.poll() is None:
                try:
                    process.wait(timeout=2)
                except subprocess.TimeoutExpired:
                    show(_frames_done(folder))
        finally:
            if process.poll() is None:
                process.terminate()
                _wait_for_state(process, interruptible=not tied)
    if process.returncode == 0:
        return None, False
    with open(folder / LOG_FILE, encoding='utf-8', errors='replace') as log:
        log.seek(begin)
        lines = [line.strip() for line in log.read().splitlines() if line.strip()]
    said = [line for line in lines if line.startswith('error: ')] or lines[-1:]
    reason = said[-1].removeprefix('error: ') if said else 'no output'
    if process.returncode < 0:
        reason = f'killed by {signal.Signals(-process.returncode).name}: {reason}'
    return f'{reason} (exit code {process.returncode})', process.returncode < 0


def _wait_for_state(process: subprocess.Popen, interruptible: bool) -> None:
    """Waits until a stopped process has saved its state; kills it if that takes too long.

    Args:
        process: The process.
        interruptible: Whether another KeyboardInterrupt ends the waiting. It must not on Ray, which
            may repeat a cancellation.
    """
    end = time.monotonic() + SECONDS_TO_SAVE
    while True:
        try:
            process.wait(timeout=max(0.0, end - time.monotonic()))
        except subprocess.TimeoutExpired:
            process.kill()
        except KeyboardInterrupt:
            if interruptible:
                raise
            continue
        return


def _frames_done(folder: Path) -> str:
    found = [
        int(match.group(1))
        for path in (folder / 'state').glob('stream_state_rank0_*.pth')
        if (match := re.search(r'_(\d+)\.pth$', path.name))
    ]
    return f'{max(found)} frames saved' if found else 'running'


def execute_runs(
    runs: Sequence[BenchmarkRun],
    work_dir: Union[str, Path],
    configs: Union[str, Path],
    tool: Union[str, Path],
    after_each: Callable[[BenchmarkRun, Outcome], None] = lambda run, outcome: None,
    execute: Callable[..., Outcome] = execute_run,
) -> dict[BenchmarkRun, Outcome]:
    """Executes runs one after the other and shows the progress on the screen.

    SIGTERM has the same effect as Ctrl-C: the current run saves its state, and the next call
    resumes it.

    Args:
        runs: The runs.
        work_dir, configs, tool: See ``execute_run``.
        after_each: Called after each run.
        execute: The function that executes one run; tests can pass another one.

    Returns:
        The outcome of each run.
    """
    before = None
    try:
        before = signal.signal(signal.SIGTERM, interrupt)
    except ValueError:
        pass  # Outside the main thread, the calling program handles signals.
    outcomes = {}
    try:
        for number, run in enumerate(runs, start=1):
            line = _Line(f'[{number}/{len(runs)}] {run}: ')
            outcomes[run] = outcome = execute(run, work_dir, configs, tool, line.show)
            detail = outcome.error or f'{outcome.seconds:.0f} s'
            line.end(
                outcome.status if outcome.status == 'skipped' else f'{outcome.status}, {detail}'
            )
            after_each(run, outcome)
    finally:
        if before is not None:
            signal.signal(signal.SIGTERM, before)
    return outcomes


def interrupt(number: int, frame: object) -> None:
    """Signal handler with the same effect as Ctrl-C."""
    raise KeyboardInterrupt


class _Line:
    """A line of progress: rewritten in place on a terminal, written once elsewhere."""

    def __init__(self, beginning: str) -> None:
        self.beginning = beginning
        self.live = sys.stdout.isatty()
        self.start = time.perf_counter()
        self.show('running')

    def show(self, text: str) -> None:
        if self.live:
            seconds = time.perf_counter() - self.start
            width = shutil.get_terminal_size().columns - 1
            line = f'{self.beginning}{text}, {seconds:.0f} s'[:width]
            print(f'\r{line.ljust(width)}', end='', flush=True)

    def end(self, text: str) -> None:
        if self.live:
            print('\r' + ' ' * (shutil.get_terminal_size().columns - 1), end='\r')
        print(self.beginning + text, flush=True)
