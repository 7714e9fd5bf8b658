"""How long nothing is learned after resets that follow each other closely."""

from typing import Optional


class RestAfterResets:
    """Rests that grow while a method keeps going astray, so that it does so ever more rarely.

    A method whose rate is too high for its model is astray again soon after a guard has set it
    back, for the frames that the guard takes to notice. Set back at once each time, it is astray
    nearly always, however good its start. So a reset that comes less than ``frames`` frames after
    the one before is followed by a rest of ``frames`` frames, the next such one by twice as many,
    and so on: in T frames there are in the order of log2(T / frames) of them, not T / frames. One
    that comes later is followed by none.

    Args:
        frames: See above; 0 for no rests.
    """

    def __init__(self, frames: int) -> None:
        self.frames = frames
        self.forget()

    def forget(self) -> None:
        """Starts anew, as before the first frame."""
        self._since: Optional[int] = None
        self._in_a_row = self._left = 0

    def takes(self) -> bool:
        """Whether the coming frame is one of a rest; frames that are not are counted."""
        if self._left:
            self._left -= 1
            return True
        if self._since is not None:
            self._since += 1
        return False

    def after_reset(self) -> int:
        """The method has been set back: the frames of the rest that begins, or 0."""
        close = self._since is not None and self._since < self.frames
        self._in_a_row = self._in_a_row + 1 if close else 0
        self._since = 0
        self._left = self.frames * 2 ** (self._in_a_row - 1) if self._in_a_row else 0
        return self._left

    def state_dict(self) -> dict:
        """All that a later rest depends on."""
        return {'since': self._since, 'in_a_row': self._in_a_row, 'left': self._left}

    def load_state_dict(self, state: dict) -> None:
        """Goes on from what ``state_dict`` gave."""
        self._since, self._in_a_row = state['since'], state['in_a_row']
        self._left = state['left']
