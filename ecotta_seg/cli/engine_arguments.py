"""The arguments for the engine of many runs; the module imports no library."""

import argparse
import math

from ..startup.first_look import check_device, check_extra
from .command_line import whole_number

ENGINES = ('here', 'ray')


def add_engine_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of the engine."""
    parser.add_argument(
        '--engine', choices=ENGINES, default='here',
        help='here: one run after the other (default); ray: many at once, on a Ray cluster',
    )  # fmt: skip
    parser.add_argument(
        '--address', metavar='HOST:PORT',
        help='with --engine ray: join this cluster (auto: the cluster that RAY_ADDRESS or this '
        'machine knows); default: a cluster on this machine that ends with the tool',
    )  # fmt: skip
    parser.add_argument(
        '--workers', type=whole_number(1),
        help='with --engine ray on this machine: number of parallel runs; default: as many as '
        'the cores allow',
    )  # fmt: skip
    parser.add_argument(
        '--cpus-per-run', type=whole_number(1), help='with --engine ray: cores per run; default: 1'
    )
    parser.add_argument(
        '--gpus-per-run', type=number_from_zero, metavar='GPUS',
        help='with --engine ray: GPUs per run, 0.5 for two runs on one GPU; default: 1 if GPUs '
        'are available and --device is not cpu',
    )  # fmt: skip


def number_from_zero(text: str) -> float:
    """An argparse type: a finite number of at least 0."""
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
        ValueError: Ray is missing, an argument needs another engine or excludes another argument,
            or this machine does not have the device.
    """
    names = ('address', 'workers', 'cpus_per_run', 'gpus_per_run')
    given = [f'--{name.replace("_", "-")}' for name in names if getattr(args, name) is not None]
    if args.engine != 'ray':
        if given:
            raise ValueError(f'{given[0]} needs --engine ray')
        check_device(args.device)
        return
    # The devices of a cluster's machines cannot be checked here.
    if args.address is not None and args.workers is not None:
        raise ValueError(
            '--workers applies only to a cluster on this machine: leave out --workers or --address'
        )
    check_extra('ray', 'ray', '--engine ray')
