"""A Runner that shows the main messages on screen and writes all messages to its log file."""

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
# The functions in these files create all log records; their caller is the code that logs.
_LOGGING = {logging.__file__, mmengine.logging.logger.__file__}
_PROGRESS = mmengine.hooks.logger_hook.__file__


class OnScreen(logging.Filter):
    """Shows warnings, messages of this package and the progress of a training on screen.

    mmengine also writes hundreds of lines about settings, versions and hooks. These lines appear
    only in the log file.

    Args:
        bar: Returns whether ``StreamProgressHook`` shows a bar for a test. If so, mmengine's
            progress lines of the test also appear only in the log file.
    """

    def __init__(self, bar: Callable[[], bool]) -> None:
        super().__init__()
        self.bar = bar

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether to show a record on screen.

        The function reads the call stack, so it must be called by the code that logs.
        """
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
    """mmengine's ``Runner``, whose screen output passes the filter ``OnScreen``.

    The log file, ``<work_dir>/<time>/<time>.log``, has the same content as that of a ``Runner``.
    """

    def build_logger(self, *args: Any, **kwargs: Any) -> MMLogger:
        """Builds mmengine's logger and logs the path of the log file."""
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
