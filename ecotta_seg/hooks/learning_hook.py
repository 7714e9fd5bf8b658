"""Warns at the end of a stream if no frame led to an update, and names the likely reason."""

from math import isnan

from mmengine.hooks import Hook

from ..methods.frame_life import Turn
from .stream_state_hook import StreamStateHook


class LearningHook(Hook):
    """Counts the frames whose step changed parameters.

    The hook ignores a method without an optimizer. The counts are not saved: a resumed run counts
    from the frame at which it resumed.
    """

    priority = Turn.SHOW

    def __init__(self) -> None:
        self._frames = self._updates = self._sure = 0

    def before_test_epoch(self, runner) -> None:
        """Resets the counts."""
        self._frames = self._updates = self._sure = 0

    def after_test_iter(self, runner, batch_idx, data_batch=None, outputs=None) -> None:
        """Counts a frame."""
        model = runner.model
        if getattr(model, 'optimizer', None) is None or not model.adapting:
            return
        record = model.last_step
        self._frames += 1
        self._updates += record.updated
        fraction = record.confident_fraction
        self._sure += not isnan(fraction) and fraction > 0

    def after_test_epoch(self, runner, metrics=None) -> None:
        """Warns if there was no update at all."""
        if self._frames and not self._updates:
            runner.logger.warning(
                f'nothing was learned from any of {self._frames} frames: {self._reason(runner)}'
            )

    def _reason(self, runner) -> str:
        if any(isinstance(hook, StreamStateHook) and hook.resume for hook in runner.hooks):
            since = ' since the stream was resumed'
        else:
            since = ''
        rates = [group['lr'] for group in runner.model.optimizer.param_groups]
        if not any(rates):
            return f'the learning rate is 0{since}'
        if not self._sure:
            return (
                f'the method learned from no pixel of any frame{since}. The predictions are '
                'never confident (some heads give scores instead of logits), the frames are bad, '
                'or entropy_threshold is too low'
            )
        return (
            f'all gradients were 0, or the guard refused each update{since} (results.json lists '
            'the events)'
        )
