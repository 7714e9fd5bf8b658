"""Delays SIGTERM and SIGINT until the current frame is complete."""

import os
import signal
import threading
from functools import partial
from typing import Any, Callable, Optional


class StopSignals:
    """Stores the first signal while ``waiting()`` is true; any other signal stops the run at once.

    Args:
        waiting: Returns whether a signal has to wait now.
    """

    def __init__(self, waiting: Callable[[], bool]) -> None:
        self.waiting = waiting
        self.noted: Optional[int] = None
        self._handlers: dict = {}

    def catch(self) -> None:
        """Catches signals from now on; does nothing outside the main thread."""
        self.noted = None
        if threading.current_thread() is not threading.main_thread() or self._handlers:
            return
        self._pid = os.getpid()
        for number in (signal.SIGTERM, signal.SIGINT):
            self._handlers[number] = signal.signal(number, self._on_signal)

    def restore(self) -> None:
        """Restores the program's own signal handlers."""
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        self._handlers = {}

    @property
    def name(self) -> str:
        """Name of the stored signal, for example ``'SIGTERM'``."""
        return signal.Signals(self.noted).name

    def stop(self) -> None:
        """Stops the program as the stored signal requires.

        Raises:
            KeyboardInterrupt: The signal is SIGINT.
            SystemExit: The signal is another one.
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
    """Makes a data loader's workers ignore each SIGTERM that their parent did not send.

    Call this before the workers start. Job managers signal all processes of a job (systemd, Slurm,
    ``kill -- -PGID``). If workers died from this signal, the parent could not finish and save its
    frame. On systems that do not report the sender of a signal (macOS) nothing changes.

    Args:
        loader: A ``DataLoader``; its own ``worker_init_fn`` is still called.
    """
    if getattr(loader, 'num_workers', 0) and hasattr(signal, 'sigwaitinfo'):
        loader.worker_init_fn = partial(_start_worker, loader.worker_init_fn)


def _start_worker(inner: Optional[Callable[[int], None]], number: int) -> None:
    # Block SIGTERM in this thread and the threads it starts; the waiting thread receives it.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    threading.Thread(target=_obey_parent, args=(os.getppid(),), daemon=True).start()
    if inner is not None:
        inner(number)


def _obey_parent(parent: int) -> None:
    while signal.sigwaitinfo({signal.SIGTERM}).si_pid != parent:
        pass
    os._exit(0)
