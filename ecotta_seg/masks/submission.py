"""Writes and checks archives of a run's masks for evaluation servers."""

import os
import re
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Optional, Union

import cv2
import numpy as np

from ..files.atomic_io import atomic_write
from ..names.class_names import plain_name
from ..names.printable import printable
from .folder import MANIFEST, SOURCE, MaskFolder
from .ids import CITYSCAPES_CLASSES, MaskEncoder, label_ids_of
from .submission_rules import SERVERS, SubmissionRules

_SHOWN = 3
# A fixed time in each entry, so that equal masks give equal archives.
_TIME = (1980, 1, 1, 0, 0, 0)


def write_submission(
    masks: Union[str, Path],
    path: Union[str, Path],
    server: str,
    part: Optional[str] = None,
    images: Optional[Union[str, Path]] = None,
) -> int:
    """Writes and checks the archive for a server; the archive appears only if it is correct.

    Args:
        masks: The folder of a run with ``MasksHook``, in train ids or label ids.
        path: The archive to write, a ``.zip`` file.
        server: A key of ``SERVERS``.
        part: ``'round_1'`` and so on, or ``'source'``; None if the run had only one round.
        images: Folder with the images of the test split. If None, only the number of masks is
            checked.

    Returns:
        The number of masks in the archive.

    Raises:
        ValueError: The masks are missing, incomplete or colours, ``part`` is None and there are
            several rounds, or the archive would violate the server's rules.
        OSError: The archive cannot be written.
    """
    rules, path = _rules(server), Path(path)
    if path.suffix != '.zip':
        raise ValueError(f'expected the name of a .zip file to write, got {path}')
    folder = MaskFolder(masks)
    encoder, table = _encoder(folder, rules)
    files = _files(folder, part)
    names = [f'{rules.folder}/{file.name}' if rules.folder else file.name for file in files]
    frames = None if images is None else frames_of_images(images, server)
    # Encoding a test split takes minutes, so mistakes in the frames are reported first.
    _check_names(names, rules, server, frames)
    with atomic_write(path) as temporary:
        with zipfile.ZipFile(temporary, 'w', zipfile.ZIP_STORED) as archive:
            for file, name in zip(files, names):
                mask = cv2.imread(str(file), cv2.IMREAD_UNCHANGED)
                if mask is None or mask.dtype != np.uint8 or mask.ndim != 2:
                    raise ValueError(f'{file} is no mask of 8 bits a pixel: run again with --out')
                _check_size(mask, str(file), rules, server)
                _, png = cv2.imencode('.png', encoder.encode(table[mask]))
                archive.writestr(zipfile.ZipInfo(name, _TIME), png.tobytes())
        check_submission(temporary, server, frames)
    return len(files)


def check_submission(
    path: Union[str, Path], server: str, frames: Optional[Sequence[str]] = None
) -> None:
    """Checks that an archive follows a server's rules.

    Args:
        path: The archive.
        server: A key of ``SERVERS``.
        frames: The frames of the test split, from ``frames_of_images``. If None, only the number of
            masks is checked.

    Raises:
        ValueError: The archive violates a rule; the message names the first fault and the remedy.
    """
    rules, path = _rules(server), Path(path)
    size = os.path.getsize(path) if path.is_file() else 0
    if not zipfile.is_zipfile(path):
        raise ValueError(f'{path} is no zip archive, or a damaged one: make the archive again')
    if rules.most_bytes is not None and size > rules.most_bytes:
        raise ValueError(
            f'{path} has {size} bytes, but {server} takes {rules.most_bytes} at most: compress the '
            'masks harder, or ask the operators'
        )
    with zipfile.ZipFile(path) as archive:
        names = [entry.filename for entry in archive.infolist() if not entry.is_dir()]
        _check_names(names, rules, server, frames)
        for name in names:
            _check_mask(archive, name, rules, server)


def frames_of_images(folder: Union[str, Path], server: str) -> list[str]:
    """Returns the sorted names of the frames in a folder, as a server names them.

    The images may be in subfolders.

    If there are subfolders named ``test``, as in a whole data set, only their images count.

    Raises:
        ValueError: None of the files is an image of the server's data set.
    """
    rules = _rules(server)
    paths = [path.relative_to(folder) for path in Path(folder).rglob('*') if not path.is_dir()]
    of_test = [path for path in paths if 'test' in path.parts[:-1]]
    matches = (re.match(rules.frame, path.name) for path in of_test or paths)
    frames = sorted({match.group() for match in matches if match})
    if not frames:
        raise ValueError(f'{folder} holds no image of the test split of {server}: name its folder')
    return frames


def _rules(server: str) -> SubmissionRules:
    if server not in SERVERS:
        raise ValueError(f'expected one of {", ".join(SERVERS)} as the server, got {server!r}')
    return SERVERS[server]


def _encoder(folder: MaskFolder, rules: SubmissionRules) -> tuple[MaskEncoder, np.ndarray]:
    """The encoder of a server's ids, and a (256,) table from the files' ids to train ids."""
    manifest = folder.read()
    if manifest is None:
        raise ValueError(
            f'{folder.path} holds no {MANIFEST}: name the folder that was given to '
            'tools/test_tta.py as --out'
        )
    if not manifest['complete']:
        raise ValueError(
            f'the run that writes {folder.path} has not ended: continue it with --resume'
        )
    if manifest['size'] != 'label':
        raise ValueError(
            f'the masks in {folder.path} have the size that the model saw: run again with '
            '--out-size label'
        )
    classes = manifest['classes']
    if [plain_name(name) for name in classes] != list(CITYSCAPES_CLASSES):
        raise ValueError(
            'expected masks of the 19 classes of Cityscapes in their order, but the masks in '
            f'{folder.path} are of {len(classes)} classes: use a data set with those'
        )
    table = np.full(256, 255, np.int64)
    if manifest['format'] == 'train_ids':
        table[: len(classes)] = range(len(classes))
    elif manifest['format'] == 'label_ids':
        table[label_ids_of(classes)] = range(len(classes))
    else:
        raise ValueError(
            f'the masks in {folder.path} are {manifest["format"]}: run again with --out-format '
            'train_ids or label_ids'
        )
    return MaskEncoder(rules.mask_format, classes), table


def _files(folder: MaskFolder, part: Optional[str]) -> list[Path]:
    there = sorted(path.name for path in folder.path.iterdir() if path.is_dir())
    rounds = [name for name in there if name != SOURCE]
    if part is None and len(rounds) == 1:
        part = rounds[0]
    if part not in there:
        raise ValueError(
            f'{folder.path} holds the masks of {", ".join(there) or "no round"}: name one of them '
            'with --part'
        )
    return sorted((folder.path / part).glob('*/*.png'), key=lambda path: (path.name, str(path)))


def _frame(name: str, rules: SubmissionRules, server: str) -> str:
    parts = name.split('/')
    match = re.match(rules.frame, parts[-1])
    inside = not rules.folder or parts[0] == rules.folder and len(parts) > 1
    if not inside or not match or not name.endswith('.png'):
        place = f'{rules.folder}/ with ' if rules.folder else ''
        raise ValueError(
            f'{server} takes {place}PNG files that are named after the images of its test split, '
            f'but the archive holds {printable(name)}: leave it out, or give masks of that split'
        )
    return match.group()


def _check_names(
    names: Sequence[str], rules: SubmissionRules, server: str, frames: Optional[Sequence[str]]
) -> None:
    found: dict[str, str] = {}
    for name in names:
        frame = _frame(name, rules, server)
        if frame in found:
            raise ValueError(
                f'{server} takes one mask a frame, but {printable(found[frame])} and '
                f'{printable(name)} show the same frame: leave one out'
            )
        found[frame] = name
    _check_frames(found, rules, server, frames)


def _check_frames(
    found: dict, rules: SubmissionRules, server: str, frames: Optional[Sequence[str]]
) -> None:
    if frames is not None:
        for names, text in (
            (sorted(set(frames) - set(found)), 'lacks masks of'),
            (sorted(set(found) - set(frames)), 'holds masks that are not of the test split:'),
        ):
            if names:
                more = f' and {len(names) - _SHOWN} more' if len(names) > _SHOWN else ''
                raise ValueError(
                    f'the archive for {server} {text} {", ".join(names[:_SHOWN])}{more}: run on '
                    'the whole test split'
                )
    elif len(found) != rules.images:
        raise ValueError(
            f'{server} takes masks of all {rules.images} images of its test split, but the archive '
            f'holds {len(found)}: run on the whole test split'
        )


def _check_mask(archive: zipfile.ZipFile, name: str, rules: SubmissionRules, server: str) -> None:
    try:
        content = archive.read(name)
    except (zipfile.BadZipFile, EOFError, ValueError, NotImplementedError, RuntimeError):
        content = b''
    mask = None
    if content:
        mask = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED)
    if mask is None or mask.ndim != 2 or mask.dtype != np.uint8:
        raise ValueError(
            f'{printable(name)} in the archive is damaged, or no PNG of one channel of 8 bits, '
            f'which {server} takes: make the archive again'
        )
    _check_size(mask, f'{printable(name)} in the archive', rules, server)
    unknown = [number for number in np.unique(mask).tolist() if number not in rules.ids]
    if unknown:
        raise ValueError(
            f'{printable(name)} in the archive holds the ids {unknown[:5]}, which are no '
            f'{rules.mask_format.replace("_", " ")} that {server} takes: give masks of a model '
            'that predicts the 19 classes of Cityscapes'
        )


def _check_size(mask: np.ndarray, what: str, rules: SubmissionRules, server: str) -> None:
    if mask.shape[::-1] != rules.size:
        raise ValueError(
            f'{what} is {mask.shape[1]}x{mask.shape[0]} pixels, but {server} takes '
            f'{rules.size[0]}x{rules.size[1]}, the size of its images: run with '
            '--out-size label on images of that size'
        )
