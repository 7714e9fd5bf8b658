"""Pauses of learning after resets in close succession."""

from typing import Optional


class Cooldown:
    """Pauses learning after repeated resets; each pause is twice as long as the one before.

    If a method's learning rate is too high for its model, the model degrades again soon after each
    reset, and stays degraded until the guard notices. If learning restarted at once, the model
    would be degraded most of the time. So a reset less than ``frames`` frames after the previous
    one starts a cooldown of ``frames`` frames. The next such reset starts a cooldown that is twice
    as long, and so on. In T frames there are about log2(T / frames) such resets, not T / frames. If
    two resets are further apart, the second one starts no cooldown. The frames of a cooldown do not
    count in this distance.

    Args:
        frames: Length of the first cooldown in frames; 0 for no cooldowns.
    """

    def __init__(self, frames: int) -> None:
        self.frames = frames
        self.forget()

    def forget(self) -> None:
        """Restores the state from before the first frame."""
        self._since: Optional[int] = None
        self._in_a_row = self._left = 0

    def pauses_frame(self) -> bool:
        """Whether the next frame is part of a cooldown; called once for each frame."""
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
        """Returns the counts that later cooldowns depend on."""
        return {'since': self._since, 'in_a_row': self._in_a_row, 'left': self._left}

    def load_state_dict(self, state: dict) -> None:
        """Restores a result of ``state_dict``."""
        self._since, self._in_a_row = state['since'], state['in_a_row']
        self._left = state['left']
