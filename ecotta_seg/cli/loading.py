"""Loads the package: for a program at once, for the tools after a check of their arguments.

torch, mmcv and mmseg take seconds to import. A tool first reports mistakes in its arguments, and
then calls ``load_package``. Modules that a tool needs before this call import none of the three.
"""

import importlib
import sys
from importlib.util import find_spec
from pathlib import Path

from ..startup.stack import check_stack, import_datasets_quietly, missing_library
from ..startup.zoo_names import bridge_model_zoo, package_folder

_PARTS = ('methods', 'datasets', 'evaluation', 'hooks')
COMMAND = 'ecotta-seg'


def run_by_tool() -> bool:
    """Whether the main program of this process is one of the tools, or the console command."""
    path = getattr(sys.modules.get('__main__'), '__file__', None)
    if not path:
        return False
    path = Path(path).resolve()
    tools = Path(package_folder('tools')).resolve()
    # On Windows the command is an .exe file that contains a __main__.py.
    return path.parent == tools or path.stem == COMMAND or path.parent.name == f'{COMMAND}.exe'


def load_lightly() -> None:
    """Checks that the libraries are installed, and registers config names with mmengine.

    Raises:
        StackError: A library is not installed.
    """
    for name in ('torch', 'mmengine', 'mmcv', 'mmseg'):
        if find_spec(name) is None:
            raise missing_library(name, 'it is not installed')
    bridge_model_zoo()


def load_package() -> None:
    """Checks torch, mmcv, mmengine and mmseg, and registers the package's classes with them.

    Raises:
        StackError: A library is missing, broken or too old.
    """
    check_stack()
    bridge_model_zoo()
    import_datasets_quietly()
    for name in _PARTS:
        importlib.import_module(f'ecotta_seg.{name}')
