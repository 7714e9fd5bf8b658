"""Shows a running stream in any viewer that mmengine's visualizer supports."""

from collections.abc import Sequence
from typing import Any, Callable, Optional

from mmengine.dist import get_world_size, is_main_process
from mmengine.hooks import Hook
from mmengine.registry import HOOKS

from ..evaluation.per_condition_iou import PerConditionIoU
from ..methods.frame_life import Turn
from ..startup.errors import sentence
from .frame_scalars import frame_scalars, round_scalars, stream_step
from .live_panel_hook import LivePanelHook
from .run_record import RunRecord
from .viewer_files import flush, forget_steps_after


@HOOKS.register_module()
class LiveViewHook(Hook):
    """Sends the numbers and panels of frames to ``runner.visualizer``.

    The config names the viewers in ``visualizer.vis_backends``. On the viewer's time axis (the
    step) a frame has its number in the stream, counted from 1 over all rounds. The curves ``round``
    and ``condition`` show to which round and condition a step belongs. See ``frame_scalars`` for
    the curves. At the end of each round the hook also sends ``round_mIoU`` and
    ``round_mIoU/<condition>``.

    A resumed run continues with the step after its saved state. If the folder already has later
    steps (both runs use one ``visualizer.save_dir``), the hook removes them from the files of
    TensorBoard and of mmengine's local backend. If a viewer fails while the stream runs, the hook
    logs one warning; the run and its results do not change.

    With several processes, only the main process sends data, and only of its own frames.

    Args:
        panels: Whether to send panels, which are pictures of the data. None sends panels if there
            is a backend other than ``LocalVisBackend``.
        frames_per_condition: Number of panels of each condition and round.
        width: Width in pixels of each picture in a panel.
    """

    priority = Turn.SHOW

    def __init__(
        self, panels: Optional[bool] = None, frames_per_condition: int = 2, width: int = 480
    ) -> None:
        self.panels, self.width = panels, width
        self.frames_per_condition = frames_per_condition
        self._failed, self._visualizer = False, None

    def before_run(self, runner: Any) -> None:
        """Adds the hook that draws panels, if panels are wanted."""
        wanted = self.panels
        if wanted is None:
            backends = getattr(runner.visualizer, '_vis_backends', {})
            wanted = any(type(b).__name__ != 'LocalVisBackend' for b in backends.values())
        if wanted and not any(isinstance(hook, LivePanelHook) for hook in runner.hooks):
            options = dict(frames_per_condition=self.frames_per_condition, width=self.width)
            runner.register_hook(LivePanelHook(self, rounds='all', **options))

    def before_test_epoch(self, runner: Any) -> None:
        """If the run resumes, removes the steps that the stopped run sent after its saved state."""
        self._done = RunRecord(runner).resumed_at
        self._round: Optional[int] = None
        self._visualizer = runner.visualizer
        if self._done and is_main_process():
            step = self._done * get_world_size()
            self.send(runner, lambda: forget_steps_after(runner.visualizer, step))

    def state_dict(self) -> dict:
        """Writes all numbers that were sent to the viewers to disk; the state itself is empty."""
        if is_main_process() and self._visualizer is not None:
            flush(self._visualizer)
        return {}

    def load_state_dict(self, state: dict) -> None:
        """Does nothing: the state is empty."""

    def step_of(self, index: int) -> int:
        """Returns the step of a frame in the current batch, see ``stream_step``.

        Args:
            index: Index of the frame in its batch.
        """
        return stream_step(self._done, index)

    def send(self, runner: Any, action: Callable[[], None]) -> None:
        """Calls ``action``, which sends data to the visualizer; does nothing after a failure."""
        if self._failed:
            return
        try:
            action()
        except Exception as error:
            # A failed viewer must not stop a run of hours.
            self._failed = True
            runner.logger.warning(
                f'the live view ends here ({type(error).__name__}: {sentence(error)}): the run '
                'and its results continue without it'
            )

    def after_test_iter(
        self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Sequence = ()
    ) -> None:
        """Sends the numbers of a batch."""
        if is_main_process():
            for index, sample in enumerate(outputs):
                step = self.step_of(index)
                number = int(sample.metainfo.get('round', 1))
                if self._round not in (None, number):
                    self._send_round(runner, self._round, step - 1)
                self._round = number
                self._send(runner, frame_scalars(runner, sample, index, len(outputs)), step)
        self._done += len(outputs)

    def after_test_epoch(self, runner: Any, metrics: Optional[dict] = None) -> None:
        """Sends the scores of the last round over all processes."""
        metric = PerConditionIoU.among(runner.test_evaluator.metrics)
        if metric is None or self._round is None or not is_main_process():
            return
        for entry in metric.rounds:
            if entry['round'] == self._round:
                self._send(runner, round_scalars([entry], self._round), self.step_of(-1))

    def _send_round(self, runner: Any, number: int, step: int) -> None:
        metric = PerConditionIoU.among(runner.test_evaluator.metrics)
        if metric is not None:
            self._send(runner, round_scalars(metric.summary(), number), step)

    def _send(self, runner: Any, numbers: dict, step: int) -> None:
        if numbers:
            self.send(runner, lambda: runner.visualizer.add_scalars(numbers, step=step))
