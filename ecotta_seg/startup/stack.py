"""Checks the required libraries: installed, new enough and compatible with each other.

Two stacks are supported: the original OpenMMLab packages and the maintained ``onedl-*`` forks.
Both are imported as ``mmengine``, ``mmcv`` and ``mmseg``.
"""

import contextlib
import importlib
import io
import os
import re

_MINIMUM = {'torch': (2, 1), 'mmengine': (0, 10), 'mmcv': (2, 0), 'mmseg': (1, 2)}
_INSTALL = (
    "install a supported stack with: pip install 'torch>=2.1' 'ecotta-seg[onedl]' "
    "(or 'ecotta-seg[openmmlab]' for the original OpenMMLab packages)"
)


class StackError(ImportError):
    """A library that the package needs is missing, broken or too old."""


def missing_library(name: str, reason: object) -> StackError:
    """Returns the error for a library that cannot be imported; it has the command to install it."""
    return StackError(
        f'ecotta_seg needs {name} >= {_wanted(name)}, which could not be imported ({reason}): '
        f'{_INSTALL}'
    )


def _wanted(name: str) -> str:
    return '.'.join(map(str, _MINIMUM[name]))


def _version_tuple(version: str) -> tuple:
    numbers = [re.match(r'\d*', piece).group() for piece in version.split('+')[0].split('.')]
    return tuple(int(number or 0) for number in numbers)


def check_stack() -> None:
    """Checks that torch, mmengine, mmcv and mmseg can be imported and are new enough.

    The function also checks that torch works with the installed NumPy.

    Raises:
        StackError: A check fails; the message names the library, the version found and the command
            that installs it.
    """
    for name, minimum in _MINIMUM.items():
        try:
            module = importlib.import_module(name)
        except ImportError as error:
            raise missing_library(name, error) from None
        except AssertionError as error:
            # mmseg asserts that it accepts the versions of mmcv and mmengine.
            raise StackError(
                f'ecotta_seg could not import {name}, which refuses another library of the '
                f'stack ({error}): {_INSTALL}'
            ) from None
        found = getattr(module, '__version__', '0')
        if _version_tuple(found) < minimum:
            raise StackError(
                f'ecotta_seg needs {name} >= {_wanted(name)}, but {found} is installed: {_INSTALL}'
            )
        if name == 'torch':
            _check_numpy(module)


def _check_numpy(torch) -> None:
    """Checks that torch can convert arrays: torch 2.1 and 2.2 were built for NumPy 1."""
    try:
        torch.zeros(1).numpy()
    except RuntimeError as error:
        raise StackError(
            f'ecotta_seg needs a torch that works with the installed NumPy, but torch '
            f"{torch.__version__} does not ({error}): install NumPy 1 with: pip install 'numpy<2', "
            'or a newer torch'
        ) from None


def import_datasets_quietly() -> None:
    """Imports ``mmseg.datasets`` and suppresses a debugging line of the onedl stack.

    onedl-mmsegmentation prints on every start that an internal package is not installed.
    """
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        importlib.import_module('mmseg.datasets')
    for line in said.getvalue().splitlines():
        if line != 'Could not import OneDL':
            print(line)


def force_safe_loading() -> None:
    """Makes ``torch.load`` refuse pickles that would run code, everywhere in this process.

    onedl-mmengine falls back to ``weights_only=False`` when a safe load fails; torch's environment
    variable forbids that.
    """
    os.environ['TORCH_FORCE_WEIGHTS_ONLY_LOAD'] = '1'
    os.environ.pop('TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD', None)
