"""Selects the engine for the runs by the command line: this machine, Ray or SLURM."""

import argparse
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Callable

from .ray_engine import RayOptions, execute_runs_on_ray, ray_cluster
from .runner import execute_runs
from .slurm_engine import SlurmOptions, execute_runs_on_slurm, jobs_at_once, parse_sbatch

# The search for a method proposes this many candidates at once on SLURM, if ``--workers`` sets no
# limit.
_JOBS_OF_A_SEARCH = 8


def runs_at_once(args: argparse.Namespace) -> int:
    """The number of runs that an engine can run at once; call it inside the block of ``engine``."""
    if args.engine == 'slurm':
        return jobs_at_once(_slurm_options(args), _JOBS_OF_A_SEARCH)
    if args.engine != 'ray':
        return 1
    import ray

    cores = ray.cluster_resources().get('CPU', 1)
    return max(1, int(cores // (args.cpus_per_run or 1)))


@contextmanager
def engine(args: argparse.Namespace) -> Iterator[Callable[..., dict]]:
    """Yields a function like ``execute_runs`` for the engine; all its calls use the same cluster.

    Args:
        args: Parsed arguments of ``add_engine_arguments``.

    Raises:
        ValueError: The cluster does not exist.
    """
    if args.engine == 'slurm':
        yield partial(execute_runs_on_slurm, options=_slurm_options(args))
        return
    if args.engine != 'ray':
        yield execute_runs
        return
    options = RayOptions(args.address, args.workers, args.cpus_per_run or 1, args.gpus_per_run)
    with ray_cluster(options):
        yield partial(execute_runs_on_ray, options=options)


def _slurm_options(args: argparse.Namespace) -> SlurmOptions:
    return SlurmOptions(
        args.address == 'local',
        args.workers,
        args.cpus_per_run or 1,
        None if args.gpus_per_run is None else int(args.gpus_per_run),
        parse_sbatch(args.sbatch or ()),
    )
