"""Writes the mask of each frame while a stream runs."""

import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Optional

import cv2
import numpy as np
from mmengine.dist import barrier, get_rank, get_world_size, is_main_process
from mmengine.hooks import Hook
from mmengine.registry import HOOKS

from ..files.png_file import atomic_write_png
from ..masks.folder import MaskFolder, frame_names
from ..masks.ids import MaskEncoder
from ..methods.frame_life import Turn
from ..names.choices import MASK_SIZES
from ..names.file_names import safe_file_name
from .run_record import RunRecord
from .sample_masks import class_mask
from .source_reference_hook import source_hook


@HOOKS.register_module()
class MasksHook(Hook):
    """Writes ``<out_dir>/round_<r>/<condition>/<frame>.png`` for each frame of a test.

    A file has the name of the frame's image; see ``frame_names`` for images of the same name.
    Memory use is constant. Each file is either complete or absent. A run that resumes from a state
    of ``StreamStateHook`` ends with the same files as an uninterrupted run. ``masks.json`` in the
    folder describes the files and records whether the run has ended, see ``MaskFolder``.

    Args:
        out_dir: The folder to write to; None for ``masks`` in the runner's ``work_dir``. The
            hook refuses a folder with masks of another run.
        out_format: ``'train_ids'`` (255 for no class), ``'label_ids'`` (Cityscapes', 0 for no
            class) or ``'colours'`` (the data set's palette, black for no class).
        size: ``'label'``: the size of the image file, which is also the size of the label.
            ``'frame'``: the size of the model's input, after the pipeline's resize.
        source: Also write the source model's masks to ``<out_dir>/source/<condition>``, once for
            all rounds. This needs a ``SourceReferenceHook`` and one more forward pass of the source
            for each frame of round 1.

    Raises:
        ValueError: ``size`` is unknown. Before the first frame: the format is unknown or does not
            fit the data set, the folder holds the masks of another run, masks of the frames before
            a stop are missing, or ``source`` is True and there is no ``SourceReferenceHook``.
        OSError: A mask cannot be written.
    """

    priority = Turn.KEEP

    def __init__(
        self,
        out_dir: Optional[str] = None,
        out_format: str = 'train_ids',
        size: str = 'label',
        source: bool = False,
    ) -> None:
        if size not in MASK_SIZES:
            raise ValueError(
                f'expected one of {", ".join(MASK_SIZES)} as the size of masks, got {size!r}'
            )
        self.out_dir, self.out_format = out_dir, out_format
        self.size, self.source = size, source
        self._run: Optional[str] = None

    def before_test(self, runner: Any) -> None:
        """Chooses the file names. If the run resumes, its saved state then sets the run's id."""
        dataset = runner.test_dataloader.dataset
        meta = dataset.metainfo
        self._encoder = MaskEncoder(self.out_format, meta['classes'], meta.get('palette'))
        if self.source and source_hook(runner) is None:
            raise ValueError(
                "the source's masks need a SourceReferenceHook in the config's custom_hooks: add "
                'one, or ask for the masks of the method alone'
            )
        self._folder = MaskFolder(self.out_dir or Path(runner.work_dir) / 'masks')
        self._names = _names_of(dataset)
        self._run = None

    def before_test_epoch(self, runner: Any) -> None:
        """Starts the folder of masks; if the run resumes, checks the folder's files instead."""
        dataset = runner.test_dataloader.dataset
        position = RunRecord(runner).resumed_at
        settings = {
            'format': self.out_format,
            'size': self.size,
            'source': self.source,
            'classes': [str(name) for name in dataset.metainfo['classes']],
            'frames': len(dataset),
            'rounds': int(getattr(dataset, 'rounds', 1)),
        }
        self._done = position
        if position:
            self._folder.go_on(dict(settings, run=self._run), list(self._files_before(dataset)))
        elif is_main_process():
            resumes = (*runner.hooks, runner.test_loop)
            again = any(getattr(hook, 'resume', False) for hook in resumes)
            self._folder.start(dict(settings, run=uuid.uuid4().hex), again)
        barrier()
        self._run = self._folder.read()['run']

    def _files_before(self, dataset: Any) -> Iterator[Path]:
        """The mask files of this process's finished frames; none without ``get_data_info``."""
        if not hasattr(dataset, 'get_data_info'):
            return
        for number in range(self._done):
            index = _stream_index(number)
            if index < len(dataset):
                yield from self._files_of(dataset.get_data_info(index), index)

    def _files_of(self, info: Any, index: int) -> list[Path]:
        """The file of a frame's adapted mask; in round 1 with ``source`` also the source's file."""
        condition, path = _condition(info), info.get('img_path')
        name = self._names.get((condition, path))
        if name is None:
            name = safe_file_name(Path(str(path)).stem if path else f'{index:06d}')
        number = int(info.get('round', 1))
        files = [self._folder.mask(number, condition, name)]
        if self.source and number == 1:
            files.append(self._folder.mask(None, condition, name))
        return files

    def after_test_iter(
        self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Sequence = ()
    ) -> None:
        """Writes the masks of a batch."""
        # Read the masks first: the source may write its prediction into the same samples.
        masks = [class_mask(sample) for sample in outputs]
        files = []
        for sample in outputs:
            index = _stream_index(self._done)
            self._done += 1
            # The sampler may repeat frames at the end, so that all processes have as many frames.
            repeated = index >= len(runner.test_dataloader.dataset)
            files.append([] if repeated else self._files_of(sample.metainfo, index))
        source = None
        if any(len(paths) > 1 for paths in files):
            source = [class_mask(sample) for sample in source_hook(runner).predict(data_batch)]
        for place, paths in enumerate(files):
            for path, found in zip(paths, (masks, source)):
                self._write(path, found[place], outputs[place].metainfo)

    def _write(self, path: Path, mask: np.ndarray, info: Any) -> None:
        if self.size == 'frame':
            height, width = info['img_shape'][:2]
            mask = cv2.resize(
                mask.astype(np.int32), (width, height), interpolation=cv2.INTER_NEAREST_EXACT
            )
        try:
            atomic_write_png(path, self._encoder.encode(mask))
        except OSError as error:
            raise OSError(
                f'the mask {path} could not be written ({error.strerror}): the run stops here, '
                'and the masks before are kept; free space and continue with --resume'
            ) from None

    def after_test_epoch(self, runner: Any, metrics: Optional[dict] = None) -> None:
        """Records in the folder that the run has ended."""
        barrier()
        if is_main_process():
            self._folder.end()

    def state_dict(self) -> dict:
        """Returns the id of the run, which a resumed run needs."""
        return {'run': self._run}

    def load_state_dict(self, state: dict) -> None:
        """Restores a result of ``state_dict``, after ``before_test``."""
        self._run = state['run']


def _stream_index(number: int) -> int:
    """The stream index of this process's frame ``number``, as in mmengine's sampler."""
    return number * get_world_size() + get_rank()


def _condition(info: Any) -> str:
    return str(info.get('condition') or 'all')


def _names_of(dataset: Any) -> dict[tuple[str, str], str]:
    """File names by condition and image path; empty if the data set gives no paths."""
    paths: dict[str, list[str]] = {}
    if hasattr(dataset, 'get_data_info'):
        for index in range(getattr(dataset, 'frames_per_round', len(dataset))):
            info = dataset.get_data_info(index)
            if info.get('img_path'):
                paths.setdefault(_condition(info), []).append(info['img_path'])
    return {
        (condition, path): name
        for condition, found in paths.items()
        for path, name in frame_names(found).items()
    }
