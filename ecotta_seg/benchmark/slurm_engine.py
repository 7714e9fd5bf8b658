"""Executes the runs of a benchmark as SLURM jobs, which ``submitit`` submits."""

import os
import signal
import socket
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any, Callable, Optional, Union

from .many_runs import RETRIES, interrupted_by_sigterm, print_outcome
from .runner import SECONDS_TO_SAVE, Outcome, execute_run, interrupt
from .runs import BenchmarkRun

FOLDER = 'jobs'
"""The folder below the work dir with the files and the logs of the jobs."""
_MINUTES = 24 * 60
# Seconds in which a run has to save its state. The job is signalled 90 seconds before its limit.
_SECONDS_AT_THE_LIMIT = 60
_SECONDS_BETWEEN_LOOKS, _SECONDS_BETWEEN_QUEUES = 0.5, 10.0


@dataclass(frozen=True)
class SlurmOptions:
    """The resources of a job, and the number of jobs.

    Attributes:
        local: If True, the jobs are processes of this machine, without SLURM, to try the engine.
        workers: Maximum number of jobs at once. None means no limit or, with ``local``, as many
            jobs as the cores allow.
        cpus: Cores per run.
        gpus: GPUs per run. None means 1 if the run requests CUDA, else 0.
        sbatch: Options of ``sbatch``, such as ``{'partition': 'long', 'time': 600}``; ``time`` is
            in minutes.
    """

    local: bool = False
    workers: Optional[int] = None
    cpus: int = 1
    gpus: Optional[int] = None
    sbatch: Mapping[str, Any] = field(default_factory=dict)


class _Job:
    """The function that a job executes, in the form that submitit requires for requeued jobs."""

    def __init__(self, run: BenchmarkRun, *paths: str) -> None:
        self.run, self.paths = run, paths
        self.process: Optional[subprocess.Popen] = None

    def __call__(self) -> tuple[Outcome, str]:
        # scancel sends SIGTERM, which submitit ignores. Without this handler the run could not save
        # its state.
        signal.signal(signal.SIGTERM, interrupt)
        outcome = execute_run(
            self.run, *self.paths, tied=True, patience=SECONDS_TO_SAVE, started=self._note
        )
        return outcome, socket.gethostname()

    def _note(self, process: subprocess.Popen) -> None:
        self.process = process

    def checkpoint(self):
        """Saves the state and requeues the job; submitit calls it before the time limit."""
        import submitit

        # SLURM kills all processes of a requeued job, so the run must save its state before.
        if self.process is not None:
            self.process.terminate()
            with suppress(subprocess.TimeoutExpired):
                self.process.wait(_SECONDS_AT_THE_LIMIT)
        return submitit.helpers.DelayedSubmission(_Job(self.run, *self.paths))


def execute_runs_on_slurm(
    runs: Sequence[BenchmarkRun],
    work_dir: Union[str, Path],
    configs: Union[str, Path],
    tool: Union[str, Path],
    after_each: Callable[[BenchmarkRun, Outcome], None] = lambda run, outcome: None,
    options: SlurmOptions = SlurmOptions(),  # noqa: B008  (it is frozen)
) -> dict[BenchmarkRun, Outcome]:
    """Executes each run as a job and prints a line for each finished run.

    Shortly before the time limit of a job, the run saves its state and the job is requeued. If a
    job or the process of its run is killed, or the machine is lost, the run is submitted again up
    to ``RETRIES`` times. In both cases the run resumes from the newest state in its folder. The
    machines of the cluster must therefore share ``work_dir``, the configs, the checkpoints, the
    data and this package.

    SIGTERM has the same effect as Ctrl-C: the jobs are cancelled, and their runs save their states.

    Args:
        runs: The runs.
        work_dir, configs, tool: See ``execute_run``.
        after_each: Called in this process after each run, in the order in which runs end.
        options: The resources of a job, and the number of jobs.

    Returns:
        The outcome of each run.

    Raises:
        ValueError: SLURM or submitit refuses the options.
    """
    paths = [os.path.abspath(path) for path in (work_dir, configs, tool)]
    # Each job has its own folder, because the numbers of jobs on this machine can repeat.
    folders = (Path(paths[0], FOLDER, time.strftime('%Y%m%d_%H%M%S'), f'{n}') for n in count(1))
    waiting, tries = list(runs), dict.fromkeys(runs, 0)
    at_work: dict[BenchmarkRun, Any] = {}
    outcomes: dict[BenchmarkRun, Outcome] = {}
    queue = _Queue(options.local)
    with interrupted_by_sigterm():
        try:
            while waiting or at_work:
                while waiting and len(at_work) < jobs_at_once(options, len(runs)):
                    run = waiting.pop(0)
                    at_work[run] = _submit(_Job(run, *paths), next(folders), options)
                for run in [run for run, job in at_work.items() if queue.has_ended(job)]:
                    outcome, machine = _result(at_work.pop(run))
                    tries[run] += outcome.died
                    if outcome.died and tries[run] <= RETRIES:
                        waiting.insert(0, run)
                        continue
                    if outcome.died:
                        outcome = outcome._replace(error=f'{outcome.error} ({RETRIES} retries)')
                    outcomes[run] = outcome
                    print_outcome(run, outcome, machine, len(outcomes), len(runs))
                    after_each(run, outcome)
                time.sleep(_SECONDS_BETWEEN_LOOKS)
        except BaseException:
            _stop(list(at_work.values()), queue)
            raise
    return outcomes


def jobs_at_once(options: SlurmOptions, most: int) -> int:
    """The maximum number of jobs at once. If the options set no limit, the result is ``most``."""
    if options.workers is None and options.local:
        return max(1, (os.cpu_count() or 1) // options.cpus)
    return options.workers or most


def parse_sbatch(texts: Sequence[str]) -> dict[str, Any]:
    """Parses options of sbatch, such as ``'partition=long'``, ``'time=600'`` or ``'exclusive'``.

    Raises:
        ValueError: The time is not a number of minutes.
    """
    split = [text.partition('=') for text in texts]
    found: dict[str, Any] = {name: value if sign else True for name, sign, value in split}
    return {**found, 'time': int(found['time'])} if 'time' in found else found


def _submit(job: _Job, folder: Path, options: SlurmOptions) -> Any:
    import submitit

    gpus = options.gpus
    if gpus is None:
        gpus = int(job.run.device == 'cuda')
    sbatch = dict(options.sbatch)
    try:
        executor = submitit.AutoExecutor(folder, cluster='local' if options.local else 'slurm')
        executor.update_parameters(
            name='ecotta_seg',
            timeout_min=sbatch.pop('time', _MINUTES),
            cpus_per_task=options.cpus,
            # Without a request sbatch gives no GPU.
            gpus_per_node=gpus or None,
            slurm_additional_parameters=sbatch or None,
        )
        return executor.submit(job)
    except RuntimeError as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        raise ValueError(f'the job cannot be submitted: {"; ".join(lines)}') from None


def _result(job: Any) -> tuple[Outcome, Optional[str]]:
    """The outcome of an ended job, and its machine. If a job has no result, it was killed."""
    from submitit.core.utils import FailedJobError

    if not job.paths.result_pickle.exists():
        return Outcome('failed', error=f'its job was lost; see {job.paths.stderr}', died=True), None
    try:
        return job.result()
    except FailedJobError:
        return Outcome('failed', error=f'its job failed; see {job.paths.stderr}'), None


class _Queue:
    """Finds the jobs that have ended, even on a cluster without accounting (without sacct).

    Args:
        local: Whether the jobs are processes of this machine.
    """

    def __init__(self, local: bool) -> None:
        self._local = local
        self._there: Optional[set[str]] = None
        self._look = -_SECONDS_BETWEEN_QUEUES
        self._missed: dict[str, float] = {}

    def has_ended(self, job: Any) -> bool:
        """Whether a job has a result, or is neither waiting nor running any more."""
        if self._local:
            return job.done()
        folder = job.paths.folder
        with suppress(OSError):
            # This makes a shared file system show the new files of other machines.
            folder.chmod(folder.stat().st_mode)
        if job.paths.result_pickle.exists():
            return True
        if time.monotonic() > self._look + _SECONDS_BETWEEN_QUEUES:
            self._look, self._there = time.monotonic(), _jobs_in_queue()
        # If a job is missing in the newest list of the queue, its result file may appear late. So
        # the job has ended only if it is also missing in the next list.
        gone = self._there is not None and job.job_id not in self._there
        self._missed[job.job_id] = self._missed.get(job.job_id, self._look) if gone else self._look
        return gone and self._look > self._missed[job.job_id]


def _jobs_in_queue() -> Optional[set[str]]:
    """The numbers of the user's jobs that wait or run; None if the cluster does not answer."""
    found = subprocess.run(
        ['squeue', '--noheader', '--user', str(os.getuid()), '--format', '%A'],
        capture_output=True,
        text=True,
    )
    return set(found.stdout.split()) if found.returncode == 0 else None


def _stop(jobs: list, queue: _Queue) -> None:
    """Cancels jobs, and waits until their runs have saved their states."""
    for job in jobs:
        job.cancel(check=False)
    end = time.monotonic() + SECONDS_TO_SAVE
    while time.monotonic() < end and not all(queue.has_ended(job) for job in jobs):
        time.sleep(_SECONDS_BETWEEN_LOOKS)
