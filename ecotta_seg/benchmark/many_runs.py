"""Common code of the engines that execute many runs at once."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Optional

from .runner import Outcome, interrupt
from .runs import BenchmarkRun

RETRIES = 3
"""How often a run is repeated whose process or machine was lost."""


def print_outcome(
    run: BenchmarkRun, outcome: Outcome, machine: Optional[str], number: int, total: int
) -> None:
    """Prints the line of a run that ended, the ``number``-th of ``total``."""
    detail = (
        '' if outcome.status == 'skipped' else f', {outcome.error or f"{outcome.seconds:.0f} s"}'
    )
    where = '' if machine is None else f', on {machine}'
    print(f'[{number}/{total}] {run}: {outcome.status}{detail}{where}', flush=True)


@contextmanager
def interrupted_by_sigterm() -> Iterator[None]:
    """Context manager in which SIGTERM has the same effect as Ctrl-C."""
    if threading.current_thread() is not threading.main_thread():
        yield  # Outside the main thread, the calling program handles signals.
        return
    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
