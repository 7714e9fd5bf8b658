"""Executes the runs of a benchmark in parallel on a Ray cluster, as its resources allow."""

import os
import signal
import socket
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, Optional, Union

from ..config.config import read_config
from ..config.environment import variables_of
from .many_runs import RETRIES, interrupted_by_sigterm, print_outcome
from .runner import SECONDS_TO_SAVE, Outcome, execute_run
from .runs import BenchmarkRun

_SECONDS_TO_CANCEL = 10
# Environment variables that affect the libraries. Those that the configs read are added.
_VARIABLES = ('PYTHONPATH', 'OMP_NUM_THREADS', 'MKL_NUM_THREADS', 'ONEDNN_MAX_CPU_ISA')


@dataclass(frozen=True)
class RayOptions:
    """The cluster, and the resources of a run.

    Attributes:
        address: Address of an existing cluster, as for ``ray.init``: ``'auto'``, ``'HOST:PORT'``.
            None starts a cluster on this machine, which ends with the benchmark.
        workers: Number of parallel runs in a cluster on this machine, each with ``cpus`` cores;
            None for as many as the cores allow.
        cpus: Cores per run.
        gpus: GPUs per run. None means 1 if a run requests CUDA, or if a run accepts any device
            and the cluster has GPUs; else 0.
    """

    address: Optional[str] = None
    workers: Optional[int] = None
    cpus: int = 1
    gpus: Optional[float] = None


class RunDied(Exception):
    """A run was killed from outside. Ray retries the run, which resumes from its saved state."""


def execute_runs_on_ray(
    runs: Sequence[BenchmarkRun],
    work_dir: Union[str, Path],
    configs: Union[str, Path],
    tool: Union[str, Path],
    after_each: Callable[[BenchmarkRun, Outcome], None] = lambda run, outcome: None,
    options: RayOptions = RayOptions(),  # noqa: B008  (it is frozen)
) -> dict[BenchmarkRun, Outcome]:
    """Executes runs on Ray and prints a line for each finished run.

    Each run is a Ray task with its own process, as in ``execute_run``. If the worker or the machine
    is lost, or the process is killed, Ray repeats the run up to ``RETRIES`` times, and the run
    resumes from the newest state in its folder. ``work_dir``, the configs, the checkpoints and the
    data must therefore have the same paths on all machines, and this package must be installed
    there.

    SIGTERM has the same effect as Ctrl-C: the current runs save their states.

    Args:
        runs: The runs.
        work_dir, configs, tool: See ``execute_run``.
        after_each: Called in this process after each run, in the order in which runs end.
        options: Options of the cluster.

    Returns:
        The outcome of each run.

    Raises:
        ValueError: The cluster does not exist, or none of its machines has the resources for a run.
    """
    import ray

    place = dict(cwd=os.getcwd(), variables=_variables(runs))
    paths = [os.path.abspath(path) for path in (work_dir, configs, tool)]
    outcomes: dict[BenchmarkRun, Outcome] = {}
    with ray_cluster(options), interrupted_by_sigterm():
        gpus = _check_room(runs, options)
        task = ray.remote(_run_here).options(
            num_cpus=options.cpus,
            num_gpus=gpus,
            max_retries=RETRIES,
            retry_exceptions=[RunDied],
            scheduling_strategy='SPREAD',
        )
        waiting = {task.remote(run, *paths, **place): run for run in runs}
        try:
            while waiting:
                (ended, *_), _ = ray.wait(list(waiting), num_returns=1)
                run = waiting.pop(ended)
                outcomes[run], machine = _result(ended)
                print_outcome(run, outcomes[run], machine, len(outcomes), len(runs))
                after_each(run, outcomes[run])
        except BaseException:
            _stop(list(waiting))
            raise
    return outcomes


def _stop(tasks: list) -> None:
    """Cancels tasks, and waits until their runs have saved their states.

    A busy worker may miss a cancellation, so the cancellation is repeated.
    """
    import ray

    end = time.monotonic() + SECONDS_TO_SAVE
    while tasks and time.monotonic() < end:
        for task in tasks:
            ray.cancel(task)
        _, tasks = ray.wait(tasks, num_returns=len(tasks), timeout=_SECONDS_TO_CANCEL)


def _run_here(
    run: BenchmarkRun,
    work_dir: str,
    configs: str,
    tool: str,
    cwd: str,
    variables: Mapping[str, str],
) -> tuple[Outcome, str]:
    """The Ray task, which runs on any machine of the cluster."""
    machine = socket.gethostname()
    try:
        os.chdir(cwd)
    except OSError as error:
        text = f'{machine} has no folder {cwd} ({error.strerror}): share it among the machines'
        return Outcome('failed', error=text), machine
    os.environ.update(variables)
    # The run of a worker that was killed may still be writing its state.
    outcome = execute_run(run, work_dir, configs, tool, tied=True, patience=SECONDS_TO_SAVE)
    if outcome.died:
        raise RunDied(f'{outcome.error}, on {machine}')
    return outcome, machine


def _result(reference: Any) -> tuple[Outcome, Optional[str]]:
    """The outcome of a task. If all retries of Ray have failed, the outcome is 'failed'."""
    import ray

    try:
        return ray.get(reference)
    except ray.exceptions.RayTaskError as error:
        again = f' ({RETRIES} retries)' if isinstance(error.cause, RunDied) else ''
        return Outcome('failed', error=f'{error.cause}{again}'), None
    except ray.exceptions.RayError as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        return Outcome('failed', error=f'{reason} ({RETRIES} retries)'), None


@contextmanager
def ray_cluster(options: RayOptions) -> Iterator[None]:
    """Joins a cluster, or starts a local one that ends with the block; nested blocks share it.

    Raises:
        ValueError: The cluster does not exist.
    """
    # Turns off Ray's usage statistics.
    os.environ.setdefault('RAY_USAGE_STATS_ENABLED', '0')
    import ray

    if ray.is_initialized():
        yield
        return
    before = signal.getsignal(signal.SIGTERM)
    cores = None if options.workers is None else options.workers * options.cpus
    own = options.address is None
    try:
        _knock(options.address)
        ray.init(
            address='local' if own else options.address,
            logging_level='ERROR',
            log_to_driver=False,
            **(dict(num_cpus=cores, include_dashboard=False) if own else {}),
        )
    except (OSError, RuntimeError) as error:
        first = error.__cause__ or error
        reason = (str(first).strip().splitlines() or [''])[-1]
        if own:
            raise ValueError(f'Ray cannot start a cluster on this machine: {reason}') from None
        raise ValueError(
            f'--address {options.address}: no Ray cluster can be joined there ({reason}): start '
            'one with `ray start --head`, or leave --address out'
        ) from None
    try:
        yield
    finally:
        ray.shutdown()
        # Ray replaces an existing signal handler.
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, before)


def _knock(address: Optional[str]) -> None:
    """Checks at once whether the address accepts connections; Ray would try for two minutes.

    Raises:
        OSError: The address accepts no connection.
    """
    host, colon, port = (address or '').rpartition('://')[2].rpartition(':')
    if colon and port.isdigit():
        socket.create_connection((host, int(port)), timeout=10).close()


def _check_room(runs: Sequence[BenchmarkRun], options: RayOptions) -> float:
    """Returns the GPUs per run; checks that a machine has the resources, or runs would never start.

    Raises:
        ValueError: No machine has the resources for a run.
    """
    import ray

    machines = [node['Resources'] for node in ray.nodes() if node['Alive']]
    gpus = options.gpus
    if gpus is None:
        devices = {run.device for run in runs}
        some = any(machine.get('GPU', 0) for machine in machines)
        gpus = 1 if 'cuda' in devices or (None in devices and some) else 0
    if not any(m.get('CPU', 0) >= options.cpus and m.get('GPU', 0) >= gpus for m in machines):
        most = {kind: max((m.get(kind, 0) for m in machines), default=0) for kind in ('CPU', 'GPU')}
        raise ValueError(
            f'no machine of the Ray cluster has room for a run of {options.cpus} cores and '
            f'{gpus:g} GPUs (at most {most["CPU"]:g} cores and {most["GPU"]:g} GPUs): lower '
            '--cpus-per-run or --gpus-per-run, or choose another --device'
        )
    return gpus


def _variables(runs: Sequence[BenchmarkRun]) -> dict[str, str]:
    """Names and values of those environment variables on which the runs depend."""
    names = dict.fromkeys(_VARIABLES)
    for path in dict.fromkeys(run.model.config for run in runs):
        try:
            names.update(dict.fromkeys(variables_of(read_config(path))))
        except ValueError:
            pass  # The run itself reports the reason.
    return {name: os.environ[name] for name in names if name in os.environ}
