"""The folder that a run writes its masks to: the file names and a description of the run."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePath
from typing import Any, Optional, Union

from ..files.atomic_io import atomic_write_text
from ..names.file_names import safe_file_name

MANIFEST = 'masks.json'
SOURCE = 'source'
_SETTINGS = ('format', 'size', 'source', 'classes', 'frames')
_KEYS = (*_SETTINGS, 'run', 'rounds', 'complete')


class MaskFolder:
    """Names the mask files of a run, and writes and checks the folder's ``masks.json``.

    The masks are ``round_1/fog/NAME.png`` and so on, and ``source/fog/NAME.png``. ``masks.json``
    holds the ``format``, the ``size``, whether the folder has masks of the ``source``, the
    ``classes``, the number of ``frames`` of the stream and of its ``rounds``, the ``run`` (a text
    that identifies the run), and whether the run is ``complete``.

    Args:
        path: The folder; it is created with the first file.
    """

    def __init__(self, path: Union[str, Path]) -> None:
        self.path = Path(path)

    def mask(self, round_number: Optional[int], condition: str, name: str) -> Path:
        """Returns the path of a frame's mask.

        Args:
            round_number: From 1; None for the source's mask, which is the same in each round.
            condition: Name of the condition.
            name: Name of the frame, from ``frame_names``.
        """
        part = SOURCE if round_number is None else f'round_{round_number}'
        return self.path / part / safe_file_name(condition) / f'{name}.png'

    def read(self) -> Optional[dict]:
        """Returns the content of ``masks.json``; None if there is no such file.

        Raises:
            ValueError: The file is damaged.
        """
        path = self.path / MANIFEST
        try:
            found = json.loads(path.read_text(encoding='utf-8'))
        except FileNotFoundError:
            return None
        except (UnicodeDecodeError, ValueError):
            found = None
        if not isinstance(found, Mapping) or any(key not in found for key in _KEYS):
            raise ValueError(
                f'{path} is damaged: remove the folder and run again with --out, or name another'
            )
        return dict(found)

    def refuse_other_run(self) -> None:
        """Refuses a folder with masks, for a run that starts with its first frame.

        Raises:
            ValueError: The folder holds masks of an earlier run.
        """
        if self.read() is not None:
            raise ValueError(
                f'{self.path} holds the masks of another run: name another folder with --out, '
                'remove this one, or continue that run with --resume'
            )

    def start(self, settings: Mapping[str, Any], again: bool) -> None:
        """Prepares the folder for the first frame of a run.

        Args:
            settings: All keys of ``masks.json`` except ``complete``.
            again: Whether this run was started before, and was stopped before it saved a state. The
                masks from before the stop are overwritten.

        Raises:
            ValueError: The folder holds masks of another run.
        """
        if again:
            self._check_settings(settings)
        else:
            self.refuse_other_run()
        self._write(dict(settings, complete=False))

    def go_on(self, settings: Mapping[str, Any], files: Sequence[Path]) -> None:
        """Checks, for a run that resumes, that the folder has the masks of all earlier frames.

        Args:
            settings: As for ``start``.
            files: The mask files of all earlier frames.

        Raises:
            ValueError: The masks belong to another run, are of another kind, or are incomplete.
        """
        found = self.read()
        missing = [path for path in files if found is None or not path.is_file()]
        if missing:
            raise ValueError(
                f'{self.path} lacks {len(missing)} of the {len(files)} masks of the frames '
                'before the stop: continue without --out, or start again without --resume'
            )
        self._check_settings(settings)
        if found['run'] != settings['run']:
            raise ValueError(
                f'{self.path} holds the masks of another run than the resumed one: name the '
                'folder that the run was started with'
            )

    def end(self) -> None:
        """Records in ``masks.json`` that the run is complete."""
        self._write(dict(self.read(), complete=True))

    def _check_settings(self, settings: Mapping[str, Any]) -> None:
        found = self.read()
        for key in _SETTINGS if found is not None else ():
            if found[key] != settings[key]:
                raise ValueError(
                    f'{self.path} holds masks with another {key} ({_short(found[key])}, not '
                    f'{_short(settings[key])}): give the options that the run was started with'
                )

    def _write(self, manifest: Mapping[str, Any]) -> None:
        text = json.dumps({key: manifest[key] for key in _KEYS}, indent=2)
        atomic_write_text(self.path / MANIFEST, text + '\n')


def frame_names(paths: Sequence[str]) -> dict[str, str]:
    """Returns a unique file name, without a suffix, for each frame of a condition.

    A frame's name is the image's name. If two images have the same name, all names are prefixed
    with the names of the images' folders.

    Args:
        paths: The images' paths. A path may occur several times.

    Returns:
        The name of each path.
    """
    paths = list(dict.fromkeys(paths))
    parts = {path: (*PurePath(path).parent.parts, PurePath(path).stem) for path in paths}
    for depth in range(1, max(map(len, parts.values()), default=0) + 1):
        names = {path: safe_file_name('_'.join(parts[path][-depth:])) for path in paths}
        # Some file systems do not distinguish names that differ only in case.
        if len({name.lower() for name in names.values()}) == len(paths):
            return names
    # The paths differ only in their suffixes: `safe_file_name` adds a hash to a name with a slash.
    return {path: safe_file_name(f'{PurePath(path).name}/{path}') for path in paths}


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 40 else f'{text[:40]}…'
