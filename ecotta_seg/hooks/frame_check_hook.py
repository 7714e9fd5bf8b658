"""Deals with bad frames of a stream: stop at the first, or go on without learning from them."""

from typing import Any, Optional

import torch
from mmengine.hooks import Hook
from mmengine.registry import HOOKS

from ..datasets.frame_check import FrameWatch
from ..datasets.frame_error import FrameError
from ..printable import printable
from .guard_hook import add_event

MODES = ('tolerant', 'strict')


@HOOKS.register_module()
class FrameCheckHook(Hook):
    """Checks each frame before the model sees it.

    Bad are files that are missing, empty, cut off or cannot be decoded, and pictures that are all
    black or white, saturated, noise, frozen, of another size, or not finite. Where the data set
    is a ``ContinualStream`` it marks what it could not load, instead of raising.

    Args:
        mode: ``'tolerant'``: the frame is predicted, where there is a picture, nothing is learned
            from it, and it is counted and listed among the events. A label that cannot be read
            costs the score of its frame only. ``'strict'``: the run stops with the file and the
            reason; a ``StreamStateHook`` saves what is done.
        sizes_differ: No size is a fault; also where the data set says so (``ContinualStream``).

    Raises:
        ValueError: Another mode.
    """

    # Before StreamStateHook (35), for which a frame begins in the same place.
    priority = 15

    def __init__(self, mode: str = 'tolerant', sizes_differ: bool = False) -> None:
        if mode not in MODES:
            raise ValueError(f'FrameCheckHook: expected a mode from {MODES}, got {mode!r}')
        self.mode, self.sizes_differ = mode, sizes_differ

    def before_test(self, runner: Any) -> None:
        """Tells the stream to mark what it cannot load."""
        dataset = runner.test_dataloader.dataset
        differ = self.sizes_differ or getattr(dataset, 'sizes_differ', False)
        self._watch = FrameWatch(differ)
        if hasattr(dataset, 'mark_bad_frames'):
            dataset.mark_bad_frames = True

    def before_test_iter(self, runner: Any, batch_idx: int, data_batch: Any = None) -> None:
        """Marks bad frames in their metainfo, where the adaptation method reads it."""
        images, samples = data_batch['inputs'], data_batch['data_samples']
        for index, sample in enumerate(samples):
            info, image = sample.metainfo, images[index]
            if isinstance(image, (list, tuple)) or not hasattr(sample, 'set_metainfo'):
                continue  # Several views of a frame (test-time augmentation) are not looked at.
            fault = info.get('frame_fault') or self._watch.check(image, info.get('img_path'))
            if fault:
                self._tell(runner, 'bad_frame', info, fault)
                sample.set_metainfo({'frame_fault': fault})
                if image.is_floating_point():
                    torch.nan_to_num_(image, 0.0, 0.0, 0.0)
            elif info.get('label_fault'):
                self._tell(runner, 'bad_label', info, info['label_fault'])

    def _tell(self, runner: Any, event: str, info: dict, fault: str) -> None:
        path: Optional[str] = info.get('img_path')
        if self.mode == 'strict':
            # What could not be loaded tells its file itself, maybe the label's.
            if path and fault not in (info.get('frame_fault'), info.get('label_fault')):
                fault = f'{path}: {fault}'
            for hook in runner.hooks:
                if hasattr(hook, 'save_between_frames'):
                    hook.save_between_frames(runner, FrameError(fault).path)
            raise FrameError(printable(fault))
        extra = dict(runner.message_hub.get_info('ecotta_seg/extra', None) or {})
        extra[f'{event}s'] = extra.get(f'{event}s', 0) + 1
        runner.message_hub.update_info('ecotta_seg/extra', extra)
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
        """Sums up."""
        extra = runner.message_hub.get_info('ecotta_seg/extra', None) or {}
        for event, what in (('bad_frames', 'bad frames'), ('bad_labels', 'unreadable labels')):
            if extra.get(event):
                runner.logger.warning(
                    f'{extra[event]} {what} in the stream: nothing was learned from the frames, '
                    'labels that could not be read are not in the scores; see "events" in '
                    'results.json'
                )

    def state_dict(self) -> dict:
        """What the next frame is compared with."""
        return self._watch.state_dict()

    def load_state_dict(self, state: dict) -> None:
        """Goes on from what ``state_dict`` gave."""
        self._watch.load_state_dict(state)
