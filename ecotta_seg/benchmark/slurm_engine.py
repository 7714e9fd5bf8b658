"""Executes the runs of a benchmark as SLURM jobs, which ``submitit`` submits."""

import os
import signal
import socket
import time
from collections.abc import Mapping, Sequence
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
_SECONDS_BETWEEN_LOOKS = 0.5


@dataclass(frozen=True)
class SlurmOptions:
    """The resources of a job, and the number of jobs.

    Attributes:
        local: The jobs are processes of this machine, without SLURM: a trial of the engine.
        workers: Number of jobs at once. None means no limit, and with ``local`` as many as the
            cores allow.
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
    """What a job executes. The class has the form that submitit requires for a requeued job."""

    def __init__(self, run: BenchmarkRun, *paths: str) -> None:
        self.run, self.paths = run, paths

    def __call__(self) -> tuple[Outcome, str]:
        # scancel sends SIGTERM, which submitit ignores: the run could not save its state.
        signal.signal(signal.SIGTERM, interrupt)
        outcome = execute_run(self.run, *self.paths, tied=True, patience=SECONDS_TO_SAVE)
        return outcome, socket.gethostname()

    def checkpoint(self):
        """submitit calls this function shortly before the time limit, and requeues the job."""
        import submitit

        return submitit.helpers.DelayedSubmission(self)


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
        options: The resources.

    Returns:
        The outcome of each run.

    Raises:
        ValueError: SLURM or submitit refuses the options.
    """
    paths = [os.path.abspath(path) for path in (work_dir, configs, tool)]
    # Each job has a folder of its own: jobs of this machine are named by numbers that recur.
    folders = (Path(paths[0], FOLDER, time.strftime('%Y%m%d_%H%M%S'), f'{n}') for n in count(1))
    waiting, tries = list(runs), dict.fromkeys(runs, 0)
    at_work: dict[BenchmarkRun, Any] = {}
    outcomes: dict[BenchmarkRun, Outcome] = {}
    with interrupted_by_sigterm():
        try:
            while waiting or at_work:
                while waiting and len(at_work) < jobs_at_once(options, len(runs)):
                    run = waiting.pop(0)
                    at_work[run] = _submit(_Job(run, *paths), next(folders), options)
                for run, job in [(run, job) for run, job in at_work.items() if job.done()]:
                    outcome, machine = _result(job)
                    del at_work[run]
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
            _stop(list(at_work.values()))
            raise
    return outcomes


def jobs_at_once(options: SlurmOptions, most: int) -> int:
    """The number of jobs that are submitted before one of them has ended; ``most`` is no limit."""
    if options.workers is None and options.local:
        return max(1, (os.cpu_count() or 1) // options.cpus)
    return options.workers or most


def parse_sbatch(texts: Sequence[str]) -> dict[str, Any]:
    """Options of sbatch from texts such as ``'partition=long'``, ``'time=600'`` or ``'exclusive'``.

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
    """The outcome of a job that ended, and its machine; a job without a result was killed."""
    from submitit.core.utils import FailedJobError, UncompletedJobError

    try:
        return job.result()
    except FailedJobError:
        return Outcome('failed', error=f'its job failed; see {job.paths.stderr}'), None
    except UncompletedJobError:
        return Outcome('failed', error=f'its job was lost; see {job.paths.stderr}', died=True), None


def _stop(jobs: list) -> None:
    """Cancels jobs, and waits until their runs have saved their states."""
    for job in jobs:
        job.cancel(check=False)
    end = time.monotonic() + SECONDS_TO_SAVE
    while time.monotonic() < end and not all(job.done(force_check=True) for job in jobs):
        time.sleep(_SECONDS_BETWEEN_LOOKS)
