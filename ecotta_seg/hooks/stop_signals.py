"""SIGTERM and SIGINT that wait until what is being done is whole."""

import os
import signal
import threading
from functools import partial
from typing import Any, Callable, Optional


class StopSignals:
    """Notes the first signal while ``waiting`` says so; any other stops the program at once.

    Args:
        waiting: Whether a signal that comes now is to wait.
    """

    def __init__(self, waiting: Callable[[], bool]) -> None:
        self.waiting = waiting
        self.noted: Optional[int] = None
        self._handlers: dict = {}

    def catch(self) -> None:
        """From here on. Only the main thread may; elsewhere signals are left to the program."""
        self.noted = None
        if threading.current_thread() is not threading.main_thread() or self._handlers:
            return
        self._pid = os.getpid()
        for number in (signal.SIGTERM, signal.SIGINT):
            self._handlers[number] = signal.signal(number, self._on_signal)

    def restore(self) -> None:
        """Puts the program's own signal handlers back."""
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        self._handlers = {}

    @property
    def name(self) -> str:
        """Of the signal that was noted, for example ``'SIGTERM'``."""
        return signal.Signals(self.noted).name

    def stop(self) -> None:
        """Does what the signal that was noted asks for.

        Raises:
            KeyboardInterrupt, SystemExit: Always one of them.
        """
        self._raise(self.noted)

    def _on_signal(self, number: int, frame: Any) -> None:
        if os.getpid() != self._pid:
            return  # A loader's worker: its parent decides.
        if self.waiting() and self.noted is None:
            self.noted = number
            return
        self._raise(number)

    def _raise(self, number: int) -> None:
        self.restore()
        raise KeyboardInterrupt if number == signal.SIGINT else SystemExit(128 + number)


def leave_signals_to_parent(loader: Any) -> None:
    """Has a data loader's workers obey no SIGTERM but their parent's; before they are started.

    Who stops a job signals all of its processes (systemd, Slurm, ``kill -- -PGID``). Workers that
    die of it take the frame with them that the parent would end and save. Where the system does
    not tell who sent a signal (macOS), all stays as it is.

    Args:
        loader: A ``DataLoader``; its own ``worker_init_fn`` is called as before.
    """
    if getattr(loader, 'num_workers', 0) and hasattr(signal, 'sigwaitinfo'):
        loader.worker_init_fn = partial(_start_worker, loader.worker_init_fn)


def _start_worker(inner: Optional[Callable[[int], None]], number: int) -> None:
    # Blocked for this thread and those that it starts: it is left to the one that waits for it.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    threading.Thread(target=_obey_parent, args=(os.getppid(),), daemon=True).start()
    if inner is not None:
        inner(number)


def _obey_parent(parent: int) -> None:
    while signal.sigwaitinfo({signal.SIGTERM}).si_pid != parent:
        pass
    os._exit(0)
