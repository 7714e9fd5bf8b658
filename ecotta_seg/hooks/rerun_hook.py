"""Records a stream for the Rerun viewer."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Optional

from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from mmengine.registry import HOOKS

from ..methods.frame_life import Turn
from ..names.printable import printable
from ..visualization.frame_picture import distinct_colours, frame_name, rgb_image
from ..visualization.rerun_file import RerunFile
from .frame_scalars import frame_scalars, stream_step
from .run_record import RunRecord
from .sample_masks import class_mask


@HOOKS.register_module()
class RerunHook(Hook):
    """For each frame, writes the picture, the adapted mask, the label and the curves to ``path``.

    All of them are on the timeline ``frame``: the frame's number in the stream, counted from 1 over
    all rounds. See ``RerunFile`` for the files on disk during the run and after a stop. If the
    recording cannot be completed, the hook logs a warning; the run and its results do not change.
    With several processes, only the main process records, and only its own frames.

    Args:
        path: The output file, ``.rrd``.
        width: Maximum width of pictures in pixels; wider ones are scaled down.

    Raises:
        ValueError: ``path`` does not end with ``.rrd``, or ``width`` is below 1.
    """

    priority = Turn.SHOW

    def __init__(self, path: str, width: int = 640) -> None:
        if Path(path).suffix != '.rrd' or width < 1:
            raise ValueError(
                f'RerunHook: expected a path that ends with .rrd and a width from 1, got {path!r} '
                f'and {width}'
            )
        self.path, self.width = path, width
        self._file: Optional[RerunFile] = None
        self._state: Optional[dict] = None

    def before_test(self, runner: Any) -> None:
        """Imports Rerun, so that a missing package stops the run before its first frame."""
        if is_main_process():
            meta = runner.test_dataloader.dataset.metainfo
            palette = meta.get('palette') or distinct_colours(len(meta['classes']))
            self._file = RerunFile(self.path, meta['classes'], palette, self.width)

    def before_test_epoch(self, runner: Any) -> None:
        """Opens the file."""
        self._done = RunRecord(runner).resumed_at
        if self._file is None:
            return
        self._name = (self._state or {}).get('name') or runner.timestamp
        if self._state is None:
            self._file.start(self._name)
            whole = not self._done
        else:
            whole = self._file.go_on(self._name, self._state['part'], self._state['bytes'])
        self._state = None
        if not whole:
            runner.logger.warning(
                f'the recording {self.path} starts after frame {self._done}: the frames before '
                'are not recorded'
            )

    def after_test_iter(
        self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Sequence = ()
    ) -> None:
        """Adds the frames of a batch to the recording."""
        for index, sample in enumerate(outputs if self._file is not None else ()):
            info = sample.metainfo
            condition, number = info.get('condition', 'all'), info.get('round', 1)
            masks = {
                'adapted': class_mask(sample),
                'label': class_mask(sample, 'gt_sem_seg'),
            }
            self._file.add(
                stream_step(self._done, index),
                rgb_image(data_batch['inputs'][index]),
                masks,
                frame_scalars(runner, sample, index, len(outputs)),
                printable(f'{condition}, round {number}: {frame_name(info)}'),
            )
        self._done += len(outputs)

    def after_test(self, runner: Any) -> None:
        """Completes the file."""
        if self._file is None:
            return
        try:
            self._file.finish()
        except OSError as error:
            self._file.close()
            runner.logger.warning(
                f'the recording {self.path} is incomplete ({error}): its parts are in '
                f'{", ".join(map(str, self._file.parts())) or "no file"}; the results are '
                'complete'
            )
        else:
            runner.logger.info(f'the recording is {self.path}: `rerun {self.path}` shows it')
        self._file = None

    def state_dict(self) -> dict:
        """Writes all added frames to disk.

        Returns:
            The recording's name, the number of its current part, and that part's size in bytes;
            empty if there is no recording or the frames could not be written.
        """
        if self._file is None:
            return {}
        try:
            size = self._file.flush()
        except OSError:
            # ``after_test`` reports the error.
            return {}
        return {'name': self._name, 'part': self._file.number, 'bytes': size}

    def load_state_dict(self, state: dict) -> None:
        """Restores a result of ``state_dict``, before the file is opened."""
        self._state = state or None
