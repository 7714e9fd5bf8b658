"""Common code of the tools: errors become one clear sentence, and no results are lost."""

import argparse
import os
import re
import sys
import tempfile
import traceback
import warnings
from pathlib import Path
from typing import Callable, Optional

from .allocator import keep_freed_memory
from .printable import printable

EXIT_OTHER_ERROR, EXIT_USER_ERROR = 1, 2
# Exceptions of Python and the system about a user's files and environment.
_SYSTEM_ERRORS = (ImportError, OSError)
# Raised on purpose, these are user errors; raised by Python itself, they are bugs of this package.
_RAISED_ERRORS = (ValueError, TypeError, KeyError)
_OURS = tuple(str(path) for path in (Path(__file__).parent, Path(__file__).parents[1] / 'tools'))
# Registries and configs of these packages refuse names and options on purpose.
_OPENMMLAB = re.compile(r'[\\/](mmengine|mmcv|mmseg)[\\/]')
# Python's message for a config with options that the named class does not have.
_WRONG_OPTION = re.compile(r'__init__\(\) (got an unexpected keyword|missing \d+ required)')
PROCESS_FLAGS = {
    '--system-allocator': 'leave the memory that is freed to the C library',
    '--show-warnings': 'show the warnings of libraries',
}


def run_tool(main: Callable[[Optional[list[str]]], None], argv: Optional[list[str]] = None) -> int:
    """Runs a tool's main function; a user error becomes one sentence and exit code 2.

    Any other error becomes one sentence with the error's type, and exit code 1.

    The process keeps freed memory from then on, see ``keep_freed_memory``, and hides the warnings
    of libraries; a note on stderr says so. The arguments ``--system-allocator`` and
    ``--show-warnings`` turn this off. ``--traceback`` shows the source of an error.

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
        told.append('memory that is freed stays with the process (--system-allocator)')
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


def is_users(error: BaseException) -> bool:
    """Whether an error is a user error, not a bug of the program.

    User errors are: exceptions that this package raises on purpose, exceptions of its own classes,
    system errors about files and imports, and names or options that OpenMMLab's registries refuse.
    """
    if isinstance(error, _SYSTEM_ERRORS) or type(error).__module__.startswith('ecotta_seg.'):
        return True
    if not isinstance(error, _RAISED_ERRORS):
        return False
    if 'Original Traceback' in str(error):
        # From a worker process: the last location in the text counts.
        places = re.findall(r'File "([^"]+)", line \d+, in .*\n\s+(\w+)', str(error))
        return bool(places) and places[-1][1] == 'raise' and _is_ours(places[-1][0])
    frames = traceback.extract_tb(error.__traceback__)
    built = any(re.search(r'mmengine[\\/]registry[\\/]', frame.filename) for frame in frames)
    if built and _WRONG_OPTION.search(str(error)):
        return True
    if not frames or not (frames[-1].line or '').startswith('raise'):
        return False
    path = frames[-1].filename
    if _is_ours(path):
        return True
    if not _OPENMMLAB.search(path):
        return False
    # These packages re-raise a caught error with the name of the class that they were building.
    cause = error.__cause__ or error.__context__
    return cause is None or is_users(cause)


def _is_ours(path: str) -> bool:
    return os.path.abspath(path).startswith(_OURS)


def sentence(error: BaseException) -> str:
    """The original message of an error, without the text that mmengine and torch add.

    A DataLoader worker passes its whole traceback as the message; mmengine's registries prepend
    the class and the file; mmengine appends the hook. Only the original message is kept. Control
    characters (for example in file names) are escaped.
    """
    if isinstance(error, KeyError) and error.args:
        text = str(error.args[0])
        # A dict raises only the key; an error raised on purpose has a longer text.
        text = text if ' ' in text else f'unknown or missing key: {text}'
    elif isinstance(error, OSError) and error.strerror:
        text = f'{error.filename or "a file"}: {error.strerror}'
    else:
        text = str(error) or type(error).__name__
    if 'Original Traceback' in text:
        lines = [line for line in text.strip().splitlines() if line and not line.startswith(' ')]
        text = re.sub(r'^[\w.]*(Error|Exception): ', '', lines[-1])
    text = re.sub(r'^class `[^`]+` in \S+: ', '', text)
    # mmengine appends the hook that raised the error, with its address.
    text = re.sub(r' in <\S+ object at 0x[0-9a-f]+>$', '', text)
    return printable(' '.join(text.split()))


def whole_number(minimum: int) -> Callable[[str], int]:
    """Returns an argparse type: a whole number of at least ``minimum``."""

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
