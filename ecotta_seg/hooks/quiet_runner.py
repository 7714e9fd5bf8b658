"""A Runner that shows what matters on screen and writes everything to its log file."""

import logging
import sys
from pathlib import Path
from typing import Any, Callable

import mmengine.hooks.logger_hook
import mmengine.logging.logger
from mmengine.logging import MMLogger
from mmengine.runner import Runner

from .progress import StreamProgressHook

_OURS = str(Path(__file__).resolve().parents[1])
# A record is made here, whoever has something to say.
_LOGGING = {logging.__file__, mmengine.logging.logger.__file__}
_PROGRESS = mmengine.hooks.logger_hook.__file__


class OnScreen(logging.Filter):
    """Lets pass warnings, what this package says, and the progress of a training.

    Settings, versions and the list of hooks, of which mmengine makes hundreds of lines, stay in the
    log file.

    Args:
        bar: Whether the progress of a test has a bar, of ``StreamProgressHook``: its lines stay in
            the log file then, too.
    """

    def __init__(self, bar: Callable[[], bool]) -> None:
        super().__init__()
        self.bar = bar

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether a record goes on the screen; called while the record is made."""
        if record.levelno >= logging.WARNING:
            return True
        frame = sys._getframe(1)
        while frame is not None and frame.f_code.co_filename in _LOGGING:
            frame = frame.f_back
        path = '' if frame is None else frame.f_code.co_filename
        if path == _PROGRESS:
            return not self.bar() or '(test)' not in record.getMessage()
        return str(Path(path).resolve()).startswith(_OURS)


class QuietRunner(Runner):
    """mmengine's ``Runner``, with ``OnScreen`` before its screen output.

    The log file, ``<work_dir>/<time>/<time>.log``, holds what a ``Runner``'s does.
    """

    def build_logger(self, *args: Any, **kwargs: Any) -> MMLogger:
        """mmengine's logger; says where the log file is."""
        logger = super().build_logger(*args, **kwargs)
        for handler in logger.handlers:
            if not isinstance(handler, logging.FileHandler):
                handler.addFilter(OnScreen(self._has_bar))
        logger.info(f'settings, versions and everything else are in {_log_file(logger)}')
        return logger

    def _has_bar(self) -> bool:
        return any(isinstance(hook, StreamProgressHook) for hook in self.hooks)


def _log_file(logger: MMLogger) -> str:
    files = [h.baseFilename for h in logger.handlers if isinstance(h, logging.FileHandler)]
    return files[0] if files else 'the log file of the main process'
