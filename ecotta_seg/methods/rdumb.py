"""RDumb: resets any method at fixed intervals."""

from torch import nn

from ..registry import ADAPTATION_METHODS
from .wrapped import WrappedAdaptation


@ADAPTATION_METHODS.register_module(name='rdumb')
class RDumb(WrappedAdaptation):
    """Resets an inner method every ``every`` steps (Press et al., arXiv 2306.05401, Section 5).

    The paper's inner method is ETA (``dict(type='eata', fisher_weight=0, ...)``). The reset comes
    before the frame's forward, as in the public code. Frames without learning do not count: under
    ``adaptation_disabled``, found bad, or undone by a guard's rollback to its last good state.

    Args:
        segmentor: The source model.
        method: Config of the inner method.
        every: Frames between two resets (1000 batches of 64 images in the paper).

    Raises:
        ValueError: ``every`` is below 1; see also base class.
    """

    def __init__(self, segmentor: nn.Module, method: dict, every: int = 1000) -> None:
        if every < 1:
            raise ValueError(f'expected every from 1, got {every}')
        super().__init__(segmentor, method)
        self.every = every
        self.frames = 0

    def begin_frame(self) -> None:
        """See base class."""
        if self.frames == self.every:
            self.reset()
            self.last_step.own_reset = f'RDumb: after each {self.every} frames'
        self.frames += 1
        super().begin_frame()

    def outer_state(self) -> dict:
        """See base class: the frames since the last reset."""
        return {'frames': self.frames}

    def load_outer_state(self, state: dict) -> None:
        """See base class."""
        self.frames = int(state['frames'])

    def reset(self) -> None:
        """See base class; also restarts the count."""
        super().reset()
        self.frames = 0
