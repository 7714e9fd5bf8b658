"""The arguments of tools that make many runs: on this machine, with Ray, or as SLURM's jobs.

This module imports no library.
"""

import argparse
import math
import shutil
from collections.abc import Sequence

from ..startup.first_look import check_device, check_extra
from .command_line import whole_number

ENGINES = ('here', 'ray', 'slurm')
LOCAL = 'local'


def add_engine_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the argument ``--engine`` and the arguments for its options."""
    parser.add_argument(
        '--engine', choices=ENGINES, default='here',
        help='here: one run after the other (default); ray: many at once, on a Ray cluster; '
        'slurm: each run is a job of SLURM',
    )  # fmt: skip
    parser.add_argument(
        '--address', metavar='HOST:PORT',
        help='with --engine ray: join this cluster (auto: the cluster that RAY_ADDRESS or this '
        'machine knows); default: a cluster on this machine that ends with the tool. With '
        '--engine slurm: local runs the jobs on this machine, without SLURM',
    )  # fmt: skip
    parser.add_argument(
        '--workers', type=whole_number(1),
        help='number of parallel runs, with --engine slurm or with --engine ray on this machine; '
        'default: as many as the cores allow, with SLURM all',
    )  # fmt: skip
    parser.add_argument(
        '--cpus-per-run', type=whole_number(1),
        help='with --engine ray or slurm: cores per run; default: 1',
    )  # fmt: skip
    parser.add_argument(
        '--gpus-per-run', type=number_from_zero, metavar='GPUS',
        help='with --engine ray or slurm: GPUs per run; default: 1 with --device cuda. Ray takes '
        '0.5 for two runs on one GPU, and 1 is its default if GPUs are available and --device is '
        'not cpu',
    )  # fmt: skip
    parser.add_argument(
        '--sbatch', nargs='+', metavar='OPTION=VALUE',
        help='with --engine slurm: options of sbatch, such as partition=long time=600; the time '
        'is in minutes, default: 1440',
    )  # fmt: skip


def number_from_zero(text: str) -> float:
    """An argparse type for finite numbers of at least 0."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < math.inf:
        raise argparse.ArgumentTypeError(f'expected a number from 0, got {text!r}')
    return value


def check_engine(args: argparse.Namespace) -> None:
    """Checks the arguments, and that the device exists.

    Raises:
        ValueError: Ray, submitit or SLURM is missing, an argument needs another engine or excludes
            another argument, or this machine does not have the device.
    """
    names = ('address', 'workers', 'cpus_per_run', 'gpus_per_run', 'sbatch')
    given = [f'--{name.replace("_", "-")}' for name in names if getattr(args, name) is not None]
    if '--sbatch' in given and args.engine != 'slurm':
        raise ValueError('--sbatch needs --engine slurm')
    if args.engine == 'here':
        if given:
            raise ValueError(f'{given[0]} needs --engine ray or --engine slurm')
        check_device(args.device)
    elif args.engine == 'slurm':
        _check_slurm(args)
    else:
        # The devices of a cluster's machines cannot be checked here.
        if args.address is not None and args.workers is not None:
            raise ValueError(
                '--workers applies only to a cluster on this machine: leave out --workers or '
                '--address'
            )
        check_extra('ray', 'ray', '--engine ray')


def _check_slurm(args: argparse.Namespace) -> None:
    if args.address not in (None, LOCAL):
        raise ValueError(
            f'--address {args.address}: with --engine slurm, expected {LOCAL} (the jobs run on '
            'this machine, without SLURM), or no --address'
        )
    if args.gpus_per_run is not None and not args.gpus_per_run.is_integer():
        raise ValueError(
            f'--gpus-per-run {args.gpus_per_run:g}: SLURM gives whole GPUs; --engine ray shares one'
        )
    if args.address == LOCAL:
        check_device(args.device)
    elif shutil.which('sbatch') is None or shutil.which('srun') is None:
        raise ValueError(
            '--engine slurm: this machine has no sbatch and srun; start the tool where the cluster '
            f'takes jobs, or try it with --address {LOCAL}'
        )
    _check_time(args.sbatch or ())
    check_extra('slurm', 'submitit', '--engine slurm', module='submitit')


def _check_time(sbatch: Sequence[str]) -> None:
    for text in sbatch:
        name, _, value = text.partition('=')
        if name == 'time' and not (value.isdecimal() and int(value)):
            raise ValueError(f'--sbatch time: expected minutes, such as time=600, got {text}')
