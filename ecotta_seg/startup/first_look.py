"""Checks the files, folders and devices that a user names, before a library is imported."""

import ctypes
import importlib.metadata
import importlib.util
import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Optional, Union

from ..names.choices import IMAGE_SUFFIXES, VIDEO_SUFFIXES, WEATHER

_BUILT_FOR = re.compile(r"^(cuda|hip)\s*(?::[^=]*)?=\s*['\"]", re.MULTILINE)


def check_checkpoint(path: Union[str, Path]) -> None:
    """Checks that a checkpoint is a readable file that is not empty.

    Raises:
        ValueError: The file is missing or empty.
    """
    _check_file(path, 'a checkpoint')


def check_adapters(path: Union[str, Path]) -> None:
    """Checks that a file of meta networks is a readable file that is not empty.

    Raises:
        ValueError: The file is missing or empty.
    """
    _check_file(path, 'an adapters', ': tools/warm_up.py writes one')


def _check_file(path: Union[str, Path], kind: str, remedy: str = '') -> None:
    if not Path(path).is_file():
        what = 'is a folder' if Path(path).is_dir() else 'does not exist'
        raise ValueError(f'expected {kind} file, but {path} {what}{remedy}')
    with open(path, 'rb') as file:  # An unreadable file raises here.
        if not file.read(1):
            raise ValueError(f'{path} is damaged or not {kind} file (it is empty): write it again')


def check_pictures(folder: Optional[str], option: str = '--calibrate') -> None:
    """Checks that a folder of pictures exists; None is accepted.

    Raises:
        ValueError: The folder does not exist.
    """
    if folder is not None and not Path(folder).is_dir():
        raise ValueError(f'{option}: expected a folder with pictures, got {folder}')


def images_of(folder: Path) -> list[Path]:
    """Returns the images of a folder in the order of their names.

    Raises:
        ValueError: The folder has no images.
    """
    files = sorted(
        path
        for path in folder.iterdir()
        if path.suffix.lower() in IMAGE_SUFFIXES and not path.is_dir()
    )
    if not files:
        raise ValueError(f'the folder {folder} holds no images ({", ".join(IMAGE_SUFFIXES)})')
    return files


def check_output(path: Union[str, Path], option: str) -> None:
    """Checks that an output can be written to its path, without creating anything.

    Args:
        path: A file or a folder, which need not exist.
        option: The command-line option that names the output.

    Raises:
        ValueError: The nearest existing part of the path is no folder, or cannot be written to.
    """
    folder = Path(path).resolve()
    folder = folder if folder.is_dir() else folder.parent
    while not folder.exists():
        folder = folder.parent
    if not folder.is_dir() or not os.access(folder, os.W_OK):
        raise ValueError(f'{folder} cannot be written to: choose another {option}')


def is_video_output(path: Path) -> bool:
    """Whether pictures go to a video; if not, they go to a folder.

    Raises:
        ValueError: The path is neither a folder nor has the suffix of a video.
    """
    if path.suffix.lower() in VIDEO_SUFFIXES and not path.is_dir():
        return True
    if not path.is_dir() and (path.suffix or path.exists()):
        raise ValueError(
            f'{path}: expected a folder or a video ending in {", ".join(VIDEO_SUFFIXES)}'
        )
    return False


def check_runs(folders: Sequence[Union[str, Path]], least: int = 1) -> None:
    """Checks that work dirs exist and hold a run.

    Args:
        folders: The work dirs.
        least: The minimum number of work dirs.

    Raises:
        FileNotFoundError: A folder does not exist or holds no run.
        ValueError: There are too few folders, or a folder is given twice.
    """
    resolved = {Path(folder).resolve() for folder in folders}
    if len(folders) < least or len(resolved) < len(folders):
        raise ValueError(
            f'expected at least {"two work dirs" if least == 2 else least}, each once, got '
            f'{", ".join(map(str, folders)) or "none"}'
        )
    for folder in map(Path, folders):
        if not folder.is_dir():
            raise FileNotFoundError(
                f'the work dir {folder} does not exist: give the folder of a run'
            )
        if not any((folder / name).exists() for name in ('results.json', 'run.json')):
            raise FileNotFoundError(
                f'{folder / "results.json"} does not exist; run tools/test_tta.py with --work-dir '
                f'{folder} first'
            )


def check_weather(conditions: Sequence[str], option: str = '--conditions') -> None:
    """Checks that all conditions are kinds of made weather.

    Raises:
        ValueError: A condition is unknown, or there is none.
    """
    unknown = [name for name in conditions if name not in WEATHER]
    if unknown or not conditions:
        raise ValueError(f'{option} {" ".join(unknown)}: expected some of {", ".join(WEATHER)}')


def check_recording(path: Optional[str], option: str = '--rerun') -> None:
    """Checks the path of a Rerun recording, and that Rerun is installed; None is accepted.

    Raises:
        ValueError: The path is not an ``.rrd`` file, or ``rerun-sdk`` is missing or too old.
    """
    if path is None:
        return
    if Path(path).suffix != '.rrd' or Path(path).is_dir():
        raise ValueError(f'{option}: expected a file that ends with .rrd, got {path}')
    check_extra('rerun', 'rerun-sdk', option, (0, 24))


def check_extra(
    extra: str, package: str, option: str, least: tuple[int, ...] = (), module: Optional[str] = None
) -> None:
    """Checks that a package of one of this package's extras is installed, without importing it.

    Args:
        extra: The name of the extra.
        package: The package's name for pip.
        option: The option that needs the package.
        least: The oldest supported version.
        module: The package's name for import; None for the name of the extra.

    Raises:
        ValueError: The package is missing or too old.
    """
    remedy = f"pip install 'ecotta-seg[{extra}]'"
    if importlib.util.find_spec(module or extra) is None:
        raise ValueError(f'{option} needs {package}, which is not installed: {remedy}')
    if least:
        found = importlib.metadata.version(package)
        numbers = tuple(int(number) for number in re.findall(r'\d+', found)[: len(least)])
        if numbers < least:
            wanted = '.'.join(map(str, least))
            raise ValueError(
                f'{option} needs {package} >= {wanted}, but {found} is installed: {remedy}'
            )


def check_device(name: Optional[str]) -> None:
    """Checks that the installed torch was built for a device, and that the device has a driver.

    The function reads torch's version file and does not import torch. It does not check whether
    the device works.

    Args:
        name: ``'cpu'``, ``'cuda'``, ``'cuda:1'`` ...; None is not checked.

    Raises:
        ValueError: The device is a CUDA device, and torch was built for the CPU only or there is
            no driver.
    """
    if not str(name or 'cpu').startswith('cuda'):
        return
    built_for = _torch_is_built_for()
    if built_for == 'cpu':
        raise ValueError(
            f'--device {name}: the installed torch was built without CUDA; use --device cpu, or '
            'install a build of torch with CUDA'
        )
    if built_for == 'cuda' and sys.platform == 'linux':
        try:
            ctypes.CDLL('libcuda.so.1')
        except OSError:
            raise ValueError(
                f'--device {name}: this machine has no driver for CUDA (libcuda.so.1); use '
                '--device cpu, or install the driver'
            ) from None


def _torch_is_built_for() -> Optional[str]:
    """``'cuda'``, ``'hip'`` or ``'cpu'``; None if unknown."""
    spec = importlib.util.find_spec('torch')
    for folder in (spec and spec.submodule_search_locations) or ():
        path = os.path.join(folder, 'version.py')
        if os.path.isfile(path):
            with open(path, encoding='utf-8') as file:
                found = _BUILT_FOR.search(file.read())
            return found[1] if found else 'cpu'
    return None
