"""Parts that any method that learns by gradients can have, such as a reset at fixed intervals."""

from typing import Any

import torch
from torch import Tensor

from ..resume.saved_state import expect_keys, misfit


class StepPart:
    """A part of a ``GradientAdaptation`` with a state of its own. The defaults do nothing."""

    def begin_frame(self, method: Any) -> None:
        """Called before each frame from which ``method`` learns."""

    def forget(self) -> None:
        """Restores the state before the first frame; called by each reset of the method."""

    def to(self, device: torch.device) -> None:
        """Moves the tensors to a device."""

    def state_dict(self) -> dict[str, Any]:
        """All state that later steps depend on: copies of tensors, and numbers."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restores a state from ``state_dict``."""

    def check_state(self, state: Any, name: str) -> None:
        """Refuses a state with other keys, kinds or shapes.

        Args:
            state: The state to load.
            name: The name of the part, for the message.

        Raises:
            ValueError: The state does not fit.
        """
        own = self.state_dict()
        expect_keys(state, own, repr(name))
        for key, value in own.items():
            same = type(state[key]) is type(value)
            if not same or (isinstance(value, Tensor) and state[key].shape != value.shape):
                raise misfit(f'{key!r} has another kind or shape')


class PeriodicReset(StepPart):
    """Resets the method after each ``every`` frames (RDumb, arXiv 2306.05401, Section 5).

    The reset comes before the prediction of the next frame, as in the public code. Only frames that
    the method learns from count. These do not count: bad frames, frames under
    ``adaptation_disabled``, and frames whose updates a guard rolls back.

    Args:
        every: Frames between two resets (1000 batches of 64 images in the paper).

    Raises:
        ValueError: ``every`` is not a whole number from 1.
    """

    def __init__(self, every: int) -> None:
        if not isinstance(every, int) or every < 1:
            raise ValueError(f'expected reset_every to be a whole number from 1, got {every!r}')
        self.every = every
        self.frames = 0

    def begin_frame(self, method: Any) -> None:
        """See base class."""
        if self.frames == self.every:
            method.reset()
            method.last_step.own_reset = f'RDumb: after each {self.every} frames'
        self.frames += 1

    def forget(self) -> None:
        """See base class. Restarts the count of frames."""
        self.frames = 0

    def state_dict(self) -> dict[str, Any]:
        """See base class. Holds the number of frames since the last reset."""
        return {'frames': self.frames}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """See base class."""
        self.frames = state['frames']
