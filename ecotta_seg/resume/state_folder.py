"""The folder of a stream's saved states: keeps the newest ones and finds the one to resume from."""

import re
import shutil
from collections.abc import Sequence
from logging import Logger
from pathlib import Path
from typing import Any, Optional, Union

from mmengine.dist import all_gather_object, get_rank

from .run_identity import differences
from .state_file import StateFileError, read_state, write_state

_PARTS = (
    'identity', 'position', 'method', 'guard', 'random', 'metrics', 'hooks', 'hub', 'growing',
    'files', 'stopped_by',
)  # fmt: skip
# Number of earlier runs whose states are kept after a start without --resume.
_ASIDE = 4


class StateFolder:
    """Writes, reads and removes this process's files ``stream_state_rank<r>_<frames>.pth``.

    Args:
        path: The folder; the first state creates the folder.
        keep: Number of states to keep.
        logger: Gets a warning for each damaged state.
    """

    def __init__(self, path: Union[str, Path], keep: int, logger: Logger) -> None:
        self.path, self.keep, self.logger = Path(path), keep, logger

    def write(self, state: dict) -> None:
        """Writes a state, either completely or not at all.

        Raises:
            OSError: The state could not be written; other states are unchanged.
        """
        write_state(state, self.path / f'{self._name()}{state["position"]:08d}.pth')

    def remove_oldest(self) -> None:
        """Removes all but the newest ``keep`` states."""
        for old in self._files()[self.keep :]:
            old.unlink(missing_ok=True)

    def newest(self, identity: dict, allow: Sequence[str], in_step: bool) -> Optional[dict]:
        """Returns the newest complete state of a run; None if there are no states.

        Args:
            identity: Identity of the run, see ``run_identity``.
            allow: Beginnings of the names of the identity's entries that may differ.
            in_step: Whether to use only states of frames for which every process has a state.

        Raises:
            ValueError: The state belongs to another run, no state is complete, or the processes
                have no state in common.
        """
        whole, damaged = self._whole()
        if in_step:
            found = all_gather_object([_frames_of(path) for path in whole])
            common = set.intersection(*map(set, found))
            if any(found) and not common:
                raise ValueError(
                    f'{self.path} has no frame of which each of the {len(found)} processes has a '
                    'state: continue with as many processes as the run was started with, or '
                    'start again without --resume'
                )
            whole = {path: state for path, state in whole.items() if _frames_of(path) in common}
        for path, state in whole.items():
            if damaged:
                self.logger.warning(f'falling back to {path}')
            different = differences(state['identity'], identity, allow)
            if different:
                raise ValueError(
                    f'{path} is the state of another run: {"; ".join(different)}. Continue with '
                    'the settings and data that the run was started with, or start again without '
                    '--resume'
                )
            for bad in damaged:
                # Otherwise a damaged state would count in ``keep`` instead of a complete one.
                bad.rename(bad.with_name(f'{bad.name}.damaged'))
            return state
        if damaged:
            first = next(iter(damaged.values()))
            raise ValueError(f'no saved state is complete: {first}; start again without --resume')
        self.logger.info(f'there is no saved state in {self.path}: starting with frame 0')
        return None

    def clear_temporaries(self) -> None:
        """Removes temporary files of a process that was killed while writing."""
        if self.path.is_dir():
            for path in self.path.glob(f'.{self._name()}*'):
                path.unlink(missing_ok=True)

    def put_aside(self) -> None:
        """Moves the states of an earlier run in this work dir to another folder.

        The states go to a free folder ``state_before_1`` to ``state_before_4``. If all four exist,
        the one with the fewest frames is deleted first.
        """
        if self.path.is_dir() and any(self.path.iterdir()):
            aside = self._free_name()
            self.path.rename(aside)
            self.logger.warning(
                f'the states of an earlier run are now in {aside}: to continue from them, rename '
                f'it to {self.path.name} and use --resume'
            )

    def _free_name(self) -> Path:
        """A free folder name for an earlier run; deletes the shortest run if none is free."""
        names = [self.path.with_name(f'state_before_{number}') for number in range(1, _ASIDE + 1)]
        free = [name for name in names if not name.is_dir()]
        if free:
            return free[0]
        shortest = min(names, key=_most_frames)
        shutil.rmtree(shortest)
        return shortest

    def _whole(self) -> tuple[dict[Path, dict], dict[Path, str]]:
        """Complete states, newest first, and the errors of the damaged ones."""
        whole, damaged = {}, {}
        for path in self._files():
            try:
                whole[path] = _checked(path)
            except StateFileError as error:
                damaged[path] = str(error)
                self.logger.warning(f'a saved state is left out: {error}')
        return whole, damaged

    def _files(self) -> list[Path]:
        """The state files of this process, newest first."""
        found = self.path.glob(f'{self._name()}*.pth')
        return sorted((path for path in found if _frames_of(path) is not None), reverse=True)

    @staticmethod
    def _name() -> str:
        return f'stream_state_rank{get_rank()}_'


def _checked(path: Path) -> dict[str, Any]:
    state = read_state(path)
    missing = [key for key in _PARTS if key not in state]
    if missing:
        raise StateFileError(f'{path} is not the state of a stream (no {missing[0]})')
    return state


def _frames_of(path: Path) -> Optional[int]:
    match = re.fullmatch(r'stream_state_rank\d+_(\d+)\.pth', path.name)
    return int(match.group(1)) if match else None


def _most_frames(folder: Path) -> int:
    return max((_frames_of(path) or 0 for path in folder.glob('*.pth')), default=0)
