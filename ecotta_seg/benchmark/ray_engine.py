"""Runs the cells of a benchmark on a Ray cluster, as many at once as the cluster has room for."""

import os
import signal
import socket
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, Optional, Union

from ..config import read_config
from ..config_environment import variables_of
from .cells import Cell
from .runner import SECONDS_TO_SAVE, Outcome, interrupt, run_cell

RETRIES = 3
# Beside the variables that the configs read: what changes how the libraries compute.
_VARIABLES = ('PYTHONPATH', 'OMP_NUM_THREADS', 'MKL_NUM_THREADS', 'ONEDNN_MAX_CPU_ISA')


@dataclass(frozen=True)
class RayOptions:
    """What a run takes of a cluster, and which cluster.

    Attributes:
        address: Of a cluster that is there, as for ``ray.init``: ``'auto'``, ``'HOST:PORT'``; None
            starts one on this machine, which ends with the benchmark.
        workers: On this machine: the number of runs at once, each of ``cpus``; None for as many
            as there are cores for.
        cpus: Cores of a run.
        gpus: GPUs of a run; None: 1 if the cells ask for CUDA, or for any device and there are
            GPUs in the cluster.
    """

    address: Optional[str] = None
    workers: Optional[int] = None
    cpus: int = 1
    gpus: Optional[float] = None


class RunDied(Exception):
    """A run that was killed from outside: Ray tries it again, and it goes on from its state."""


def run_cells_on_ray(
    cells: Sequence[Cell],
    work_dir: Union[str, Path],
    configs: Union[str, Path],
    tool: Union[str, Path],
    after_each: Callable[[Cell, Outcome], None] = lambda cell, outcome: None,
    options: RayOptions = RayOptions(),  # noqa: B008  (it is frozen)
) -> dict[Cell, Outcome]:
    """Hands cells to Ray and tells each that has ended.

    Each cell is a task of Ray's with a process of its own, as in ``run_cell``. If its worker or its
    machine is lost, or the process is killed, Ray runs the cell again up to ``RETRIES`` times, and
    it goes on from the newest state in its folder. So ``work_dir``, the configs, the checkpoints
    and the data have to be at the same paths on all machines, and this package has to be installed
    there.

    SIGTERM ends it as Ctrl-C does: the running cells save their states.

    Args:
        cells: What to run.
        work_dir, configs, tool: See ``run_cell``.
        after_each: Called here after each cell, in the order in which they end.
        options: Of the cluster.

    Returns:
        The outcome of each.

    Raises:
        ValueError: There is no such cluster, or no machine of it has room for a run.
    """
    import ray

    place = dict(cwd=os.getcwd(), variables=_variables(cells))
    paths = [os.path.abspath(path) for path in (work_dir, configs, tool)]
    outcomes: dict[Cell, Outcome] = {}
    with ray_cluster(options), _interrupted_by_sigterm():
        gpus = _check_room(cells, options)
        task = ray.remote(_run_here).options(
            num_cpus=options.cpus,
            num_gpus=gpus,
            max_retries=RETRIES,
            retry_exceptions=[RunDied],
            scheduling_strategy='SPREAD',
        )
        waiting = {task.remote(cell, *paths, **place): cell for cell in cells}
        try:
            while waiting:
                (ended, *_), _ = ray.wait(list(waiting), num_returns=1)
                cell = waiting.pop(ended)
                outcomes[cell], machine = _result(ended)
                _tell(cell, outcomes[cell], machine, len(outcomes), len(cells))
                after_each(cell, outcomes[cell])
        except BaseException:
            for reference in waiting:
                ray.cancel(reference)
            if waiting:
                ray.wait(list(waiting), num_returns=len(waiting), timeout=SECONDS_TO_SAVE)
            raise
    return outcomes


def _run_here(
    cell: Cell, work_dir: str, configs: str, tool: str, cwd: str, variables: Mapping[str, str]
) -> tuple[Outcome, str]:
    """A task: runs on any machine of the cluster."""
    machine = socket.gethostname()
    try:
        os.chdir(cwd)
    except OSError as error:
        text = f'{machine} has no folder {cwd} ({error.strerror}): share it among the machines'
        return Outcome('failed', error=text), machine
    os.environ.update(variables)
    # The run of a worker that was killed may still be writing its state.
    outcome = run_cell(cell, work_dir, configs, tool, tied=True, patience=SECONDS_TO_SAVE)
    if outcome.died:
        raise RunDied(f'{outcome.error}, on {machine}')
    return outcome, machine


def _result(reference: Any) -> tuple[Outcome, Optional[str]]:
    """What became of a task; what Ray gave up after its retries is a failed cell."""
    import ray

    try:
        return ray.get(reference)
    except ray.exceptions.RayTaskError as error:
        again = f' ({RETRIES} retries)' if isinstance(error.cause, RunDied) else ''
        return Outcome('failed', error=f'{error.cause}{again}'), None
    except ray.exceptions.RayError as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        return Outcome('failed', error=f'{reason} ({RETRIES} retries)'), None


def _tell(cell: Cell, outcome: Outcome, machine: Optional[str], number: int, total: int) -> None:
    detail = (
        '' if outcome.status == 'skipped' else f', {outcome.error or f"{outcome.seconds:.0f} s"}'
    )
    where = '' if machine is None else f', on {machine}'
    print(f'[{number}/{total}] {cell}: {outcome.status}{detail}{where}', flush=True)


@contextmanager
def ray_cluster(options: RayOptions) -> Iterator[None]:
    """Joins a cluster, or starts one here that ends with the block; inside a block there is one.

    Raises:
        ValueError: There is no such cluster.
    """
    # Ray would report its use to its makers.
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
        # Ray puts a handler of its own in the place of one that is there.
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, before)


def _knock(address: Optional[str]) -> None:
    """Finds out at once whether anybody answers; Ray would try for two minutes.

    Raises:
        OSError: Nobody does.
    """
    host, colon, port = (address or '').rpartition('://')[2].rpartition(':')
    if colon and port.isdigit():
        socket.create_connection((host, int(port)), timeout=10).close()


def _check_room(cells: Sequence[Cell], options: RayOptions) -> float:
    """The GPUs of a run. A run that no machine has room for would wait for ever.

    Raises:
        ValueError: There is no such machine.
    """
    import ray

    machines = [node['Resources'] for node in ray.nodes() if node['Alive']]
    gpus = options.gpus
    if gpus is None:
        devices = {cell.device for cell in cells}
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


def _variables(cells: Sequence[Cell]) -> dict[str, str]:
    """Environment variables of this machine that the runs depend on."""
    names = dict.fromkeys(_VARIABLES)
    for path in dict.fromkeys(cell.model.config for cell in cells):
        try:
            names.update(dict.fromkeys(variables_of(read_config(path))))
        except ValueError:
            pass  # The cell says why when it is run.
    return {name: os.environ[name] for name in names if name in os.environ}


@contextmanager
def _interrupted_by_sigterm() -> Iterator[None]:
    """SIGTERM ends the block as Ctrl-C does."""
    if threading.current_thread() is not threading.main_thread():
        yield  # Signals belong to the program around us.
        return
    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
