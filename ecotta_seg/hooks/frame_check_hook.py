"""Handles bad frames of a stream: stop at the first one, or skip learning on each."""

from typing import Any, Optional

from mmengine.hooks import Hook
from mmengine.registry import HOOKS

from ..datasets.checks.frame_check import FrameChecker
from ..datasets.checks.frame_error import FrameError
from ..methods.frame_life import Turn, check_frame
from ..names.printable import printable
from .guard_hook import add_event
from .run_record import RunRecord

MODES = ('tolerant', 'strict')


@HOOKS.register_module()
class FrameCheckHook(Hook):
    """Checks each frame before the model sees it.

    A frame is bad if its file is missing, empty, truncated or cannot be decoded, or if its picture
    is all black or white, saturated, noise, frozen, of another size, or not finite. If the data set
    is a ``ContinualStream`` and cannot load a frame, it marks the frame instead of raising.

    Args:
        mode: ``'tolerant'``: the model predicts the frame, if the picture could be loaded, but does
            not learn from the frame. The frame is counted and listed among the events. If a label
            cannot be read, only the score of its frame is lost. ``'strict'``: the run stops and
            names the file and the reason. If there is a ``StreamStateHook``, it saves the state.
        sizes_differ: If True, a frame of another size is not bad. A ``ContinualStream`` can allow
            other sizes, too.

    Raises:
        ValueError: ``mode`` is unknown.
    """

    priority = Turn.CHECK

    def __init__(self, mode: str = 'tolerant', sizes_differ: bool = False) -> None:
        if mode not in MODES:
            raise ValueError(f'FrameCheckHook: expected a mode from {MODES}, got {mode!r}')
        self.mode, self.sizes_differ = mode, sizes_differ

    def before_test(self, runner: Any) -> None:
        """Makes the stream mark the frames that it cannot load."""
        dataset = runner.test_dataloader.dataset
        differ = self.sizes_differ or getattr(dataset, 'sizes_differ', False)
        self._checker = FrameChecker(differ)
        if hasattr(dataset, 'mark_bad_frames'):
            dataset.mark_bad_frames = True

    def before_test_iter(self, runner: Any, batch_idx: int, data_batch: Any = None) -> None:
        """Marks bad frames in their metainfo, which the adaptation method reads."""
        images, samples = data_batch['inputs'], data_batch['data_samples']
        for index, sample in enumerate(samples):
            info, image = sample.metainfo, images[index]
            if isinstance(image, (list, tuple)) or not hasattr(sample, 'set_metainfo'):
                continue  # Several views of a frame (test-time augmentation) are not checked.
            fault = check_frame(self._checker, image, sample)
            if fault:
                self._report(runner, 'bad_frame', info, fault)
            elif info.get('label_fault'):
                self._report(runner, 'bad_label', info, info['label_fault'])

    def _report(self, runner: Any, event: str, info: dict, fault: str) -> None:
        path: Optional[str] = info.get('img_path')
        if self.mode == 'strict':
            # A loading fault already names its file, which may be the label.
            if path and fault not in (info.get('frame_fault'), info.get('label_fault')):
                fault = f'{path}: {fault}'
            for hook in runner.hooks:
                if hasattr(hook, 'save_between_frames'):
                    hook.save_between_frames(runner, FrameError(fault).path)
            raise FrameError(printable(fault))
        extra = RunRecord(runner).extra
        extra[f'{event}s'] = extra.get(f'{event}s', 0) + 1
        RunRecord(runner).extra = extra
        add_event(
            runner,
            {
                'event': event,
                'stream_index': info.get('stream_index'),
                'reason': printable(fault),
                'path': printable(str(path)),
            },
        )

    def after_test_epoch(self, runner: Any, metrics: Any = None) -> None:
        """Logs the number of bad frames and unreadable labels."""
        extra = RunRecord(runner).extra
        for event, what in (('bad_frames', 'bad frames'), ('bad_labels', 'unreadable labels')):
            if extra.get(event):
                runner.logger.warning(
                    f'{extra[event]} {what} in the stream: the method did not learn from the '
                    'frames, and unreadable labels are not in the scores; see "events" in '
                    'results.json'
                )

    def state_dict(self) -> dict:
        """Returns the data of earlier frames with which the next frame is compared."""
        return self._checker.state_dict()

    def load_state_dict(self, state: dict) -> None:
        """Restores a result of ``state_dict``."""
        self._checker.load_state_dict(state)
