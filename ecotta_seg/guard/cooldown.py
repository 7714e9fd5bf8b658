"""Pauses of learning after resets in close succession."""

from typing import Optional


class Cooldown:
    """After repeated resets learning pauses, twice as long each time.

    If a method's learning rate is too high for its model, the model degrades again soon after each
    reset, and stays degraded until the guard notices. With immediate restarts the model is
    degraded most of the time. So a reset less than ``frames`` frames after the previous one starts
    a cooldown of ``frames`` frames, the next such reset one twice as long, and so on: in T frames
    there are about log2(T / frames) such resets, not T / frames. A later reset starts no cooldown.

    Args:
        frames: Length of the first cooldown in frames; 0 for no cooldowns.
    """

    def __init__(self, frames: int) -> None:
        self.frames = frames
        self.forget()

    def forget(self) -> None:
        """Restores the state before the first frame."""
        self._since: Optional[int] = None
        self._in_a_row = self._left = 0

    def pauses_frame(self) -> bool:
        """Whether the next frame is part of a cooldown; counts the frame if it is not."""
        if self._left:
            self._left -= 1
            return True
        if self._since is not None:
            self._since += 1
        return False

    def after_reset(self) -> int:
        """Records a reset and returns the number of frames of the cooldown that starts, or 0."""
        close = self._since is not None and self._since < self.frames
        self._in_a_row = self._in_a_row + 1 if close else 0
        self._since = 0
        self._left = self.frames * 2 ** (self._in_a_row - 1) if self._in_a_row else 0
        return self._left

    def state_dict(self) -> dict:
        """All state that later cooldowns depend on."""
        return {'since': self._since, 'in_a_row': self._in_a_row, 'left': self._left}

    def load_state_dict(self, state: dict) -> None:
        """Restores a state from ``state_dict``."""
        self._since, self._in_a_row = state['since'], state['in_a_row']
        self._left = state['left']
