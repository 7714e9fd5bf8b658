"""What the tools share: one clear sentence for a user's mistake, and nothing lost by it."""

import argparse
import re
import sys
import tempfile
import traceback
import warnings
from pathlib import Path
from typing import Callable, Optional

from .allocator import keep_freed_memory
from .evaluation.printable import printable

EXIT_OTHER_ERROR, EXIT_USER_ERROR = 1, 2
_USER_ERRORS = (ValueError, TypeError, ImportError, OSError, KeyError, SyntaxError)


def run_tool(main: Callable[[Optional[list[str]]], None], argv: Optional[list[str]] = None) -> int:
    """Runs a tool's main function; a user's mistake becomes one sentence and exit code 2.

    Any other error becomes one, too, with its type, and exit code 1.

    The process keeps freed memory from then on, see ``keep_freed_memory``.

    ``--traceback`` among the arguments shows where an error came from instead.

    Args:
        main: Takes the arguments.
        argv: Arguments; None for the command line's.

    Returns:
        The exit code.
    """
    argv = list(sys.argv[1:] if argv is None else argv)
    show = '--traceback' in argv
    if show:
        argv.remove('--traceback')
    else:
        warnings.filterwarnings('ignore', category=UserWarning)
        warnings.filterwarnings('ignore', category=FutureWarning)
        warnings.filterwarnings('ignore', category=DeprecationWarning)
    keep_freed_memory()
    try:
        main(argv)
    except KeyboardInterrupt:
        print('stopped by the user', file=sys.stderr)
        return 130
    except Exception as error:
        foreseen, text = isinstance(error, _USER_ERRORS), sentence(error)
        if not foreseen:
            text = (
                f'{type(error).__name__}: {text} (not foreseen: --traceback shows where it comes '
                'from)'
            )
        if show:
            traceback.print_exc()
        else:
            print(f'error: {text}', file=sys.stderr)
        return EXIT_USER_ERROR if foreseen else EXIT_OTHER_ERROR
    return 0


def sentence(error: BaseException) -> str:
    """The message of an error without what mmengine and torch wrap around it.

    A DataLoader worker hands over its whole traceback as the message, mmengine's registries put
    the class and the file in front, its hooks come behind: what the raiser said is left. What a
    terminal would obey (a file may be called anything) is escaped.
    """
    if isinstance(error, KeyError) and error.args:
        text = str(error.args[0])
        # A name alone is what a dict raises; who raises it on purpose says more.
        text = text if ' ' in text else f'unknown or missing key: {text}'
    elif isinstance(error, OSError) and error.strerror:
        text = f'{error.filename or "a file"}: {error.strerror}'
    else:
        text = str(error) or type(error).__name__
    if 'Original Traceback' in text:
        lines = [line for line in text.strip().splitlines() if line and not line.startswith(' ')]
        text = re.sub(r'^[\w.]*(Error|Exception): ', '', lines[-1])
    text = re.sub(r'^class `[^`]+` in \S+: ', '', text)
    # mmengine adds the hook that an error came from, by its address.
    text = re.sub(r' in <\S+ object at 0x[0-9a-f]+>$', '', text)
    return printable(' '.join(text.split()))


def whole_number(minimum: int) -> Callable[[str], int]:
    """An argparse type: a whole number from ``minimum``."""

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


def check_work_dir(path: str) -> Path:
    """Makes the work dir and checks that files can be written there, before any work is done.

    Raises:
        ValueError: It cannot be made or written to.
    """
    folder = Path(path)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # Without a name of its own: several processes check the same folder at once.
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise ValueError(
            f'the work dir {path} cannot be written to ({error.strerror}): choose another '
            '--work-dir'
        ) from None
    return folder
