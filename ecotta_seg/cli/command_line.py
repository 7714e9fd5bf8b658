"""Common code of the tools: errors become one clear sentence, and no results are lost."""

import argparse
import sys
import tempfile
import traceback
import warnings
from pathlib import Path
from typing import Callable, Optional

from ..startup.allocator import keep_freed_memory
from ..startup.errors import is_users, sentence

EXIT_OTHER_ERROR, EXIT_USER_ERROR = 1, 2
PROCESS_FLAGS = {
    '--system-allocator': 'let the C library manage freed memory',
    '--show-warnings': 'show the warnings of libraries',
}


def run_tool(main: Callable[[Optional[list[str]]], None], argv: Optional[list[str]] = None) -> int:
    """Runs a tool's main function; a user error becomes one sentence and exit code 2.

    Any other error becomes one sentence with the error's type, and exit code 1.

    The process keeps freed memory from then on, see ``keep_freed_memory``, and hides the warnings
    of libraries; a note on stderr says so. The arguments ``--system-allocator`` and
    ``--show-warnings`` turn these two off. ``--traceback`` shows the traceback of an error.

    Args:
        main: The tool's main function, which takes the arguments.
        argv: Arguments; None for those of the command line.

    Returns:
        The exit code.
    """
    argv = list(sys.argv[1:] if argv is None else argv)
    flags = {flag for flag in ('--traceback', *PROCESS_FLAGS) if flag in argv}
    argv = [argument for argument in argv if argument not in flags]
    show, told = '--traceback' in flags, []
    if not flags & {'--traceback', '--show-warnings'}:
        for category in (UserWarning, FutureWarning, DeprecationWarning):
            warnings.filterwarnings('ignore', category=category)
        told.append('warnings of libraries are not shown (--show-warnings)')
    if '--system-allocator' not in flags and keep_freed_memory():
        told.append('freed memory stays with the process (--system-allocator)')
    if told and not {'-h', '--help'} & set(argv):
        print(f'note: {"; ".join(told)}', file=sys.stderr)
    try:
        main(argv)
    except KeyboardInterrupt:
        print('stopped by the user', file=sys.stderr)
        return 130
    except Exception as error:
        foreseen, text = is_users(error), sentence(error)
        if not foreseen:
            text = f'{type(error).__name__}: {text} (unexpected: --traceback shows its origin)'
        if show:
            traceback.print_exc()
        else:
            print(f'error: {text}', file=sys.stderr)
        return EXIT_USER_ERROR if foreseen else EXIT_OTHER_ERROR
    return 0


def whole_number(minimum: int) -> Callable[[str], int]:
    """Returns an argparse type for whole numbers of at least ``minimum``."""

    def parse(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            value = minimum - 1
        if value < minimum:
            raise argparse.ArgumentTypeError(
                f'expected a whole number from {minimum}, got {text!r}'
            )
        return value

    return parse


def check_work_dir(path: str, option: str = '--work-dir') -> Path:
    """Creates a folder and checks that it is writable, before any work is done.

    Args:
        path: The folder.
        option: The command-line option that names the folder.

    Raises:
        ValueError: The folder cannot be created or written to.
    """
    folder = Path(path)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # A file without a name, because several processes may check the same folder at once.
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise ValueError(
            f'the folder {path} cannot be written to ({error.strerror}): choose another {option}'
        ) from None
    return folder
