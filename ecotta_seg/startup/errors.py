"""User errors: which errors are a mistake of the user, and their message as one sentence."""

import os
import re
import traceback
from pathlib import Path

from ..names.printable import printable

# Exceptions of Python and the system about a user's files and environment.
_SYSTEM_ERRORS = (ImportError, OSError)
# Raised on purpose, these are user errors; raised by Python itself, they are bugs of this package.
_RAISED_ERRORS = (ValueError, TypeError, KeyError)
_PACKAGE = Path(__file__).parents[1]
_OURS = (str(_PACKAGE), str(_PACKAGE.parent / 'tools'))
# Registries and configs of these packages refuse names and options on purpose.
_OPENMMLAB = re.compile(r'[\\/](mmengine|mmcv|mmseg)[\\/]')
# Python's message for a config with options that the named class does not have.
_WRONG_OPTION = re.compile(r'__init__\(\) (got an unexpected keyword|missing \d+ required)')


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
    """Returns the original message of an error, without the text that mmengine and torch add.

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
