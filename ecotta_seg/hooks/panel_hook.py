"""Saves pictures of some frames of each condition while a stream runs."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Optional, Union

import numpy as np
import torch
from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from mmengine.registry import HOOKS

from ..evaluation.class_areas import class_areas, mean_iou
from ..files.png_file import atomic_write_png
from ..methods.frame_life import Turn
from ..names.file_names import safe_file_name
from ..names.printable import printable
from ..visualization.condition_panel import condition_panel
from ..visualization.frame_picture import distinct_colours, frame_name, rgb_image
from .sample_masks import class_mask
from .source_reference_hook import source_hook


@HOOKS.register_module()
class PanelHook(Hook):
    """Writes ``<show_dir>/<condition>/<round>_<sequence>_<frame>.png``.

    Each picture shows the frame as the model gets it, the source model's mask (if there is a
    ``SourceReferenceHook``), the adapted mask and the label. For this hook the source predicts only
    the frames that are shown. Names from the data set are made safe: nothing is written outside
    ``show_dir``.

    Args:
        show_dir: The folder to write to; None for ``panels`` in the runner's ``work_dir``.
        frames_per_condition: Number of frames of each condition and round to show: evenly spaced
            if the data set gives its order (``ContinualStream``), else the first ones.
        rounds: ``'last'``, ``'first'``, ``'all'`` or the numbers of the rounds to show.
        width: Width in pixels of each picture in a row.
        ignore_index: The label of pixels that are not scored.
    """

    priority = Turn.SHOW

    def __init__(
        self,
        show_dir: Optional[str] = None,
        frames_per_condition: int = 2,
        rounds: Union[str, Sequence[int]] = 'last',
        width: int = 480,
        ignore_index: int = 255,
    ) -> None:
        if frames_per_condition < 1:
            raise ValueError(
                f'frames_per_condition must be at least 1, got {frames_per_condition}; leave the '
                'PanelHook out to draw nothing'
            )
        if isinstance(rounds, str) and rounds not in ('last', 'first', 'all'):
            raise ValueError(
                f"rounds must be 'last', 'first', 'all' or a list of numbers, got {rounds!r}"
            )
        self.show_dir = show_dir
        self.frames_per_condition = frames_per_condition
        self.rounds = rounds
        self.width = width
        self.ignore_index = ignore_index

    def before_test(self, runner: Any) -> None:
        """Chooses the frames to show."""
        dataset = runner.test_dataloader.dataset
        self._folder = Path(self.show_dir or Path(runner.work_dir) / 'panels')
        self._last_round = int(getattr(dataset, 'rounds', 1))
        self._chosen = self._choose(dataset)
        self._shown: dict[tuple[int, str], int] = {}

    def _wants(self, number: int) -> bool:
        if self.rounds == 'all':
            return True
        if self.rounds in ('last', 'first'):
            return number == (self._last_round if self.rounds == 'last' else 1)
        return number in self.rounds

    def _choose(self, dataset: Any) -> Optional[set]:
        """Stream indices to show; None if the data set does not give its order."""
        if not hasattr(dataset, 'position'):
            return None
        places: dict[tuple[int, str], list[int]] = {}
        for index in range(len(dataset)):
            position = dataset.position(index)
            if self._wants(position.round):
                places.setdefault((position.round, position.condition), []).append(index)
        wanted = self.frames_per_condition
        return {
            indices[(2 * number + 1) * len(indices) // (2 * wanted)]
            for indices in places.values()
            for number in range(wanted)
        }

    def after_test_iter(
        self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Sequence = ()
    ) -> None:
        """Draws the chosen frames of a batch."""
        if not is_main_process():
            return
        chosen = [index for index, sample in enumerate(outputs) if self._is_chosen(sample)]
        if not chosen:
            return
        # Read the masks first: the source may write its prediction into the same samples.
        masks = {index: class_mask(outputs[index]) for index in chosen}
        labels = {index: class_mask(outputs[index], 'gt_sem_seg') for index in chosen}
        source = self._predict_source(runner, data_batch)
        for index in chosen:
            parts = [('adapted', masks[index])]
            if source is not None:
                parts.insert(0, ('source', class_mask(source[index])))
            image = rgb_image(data_batch['inputs'][index])
            self._draw(runner, outputs[index].metainfo, image, parts, labels[index], index)

    def _is_chosen(self, sample: Any) -> bool:
        info = sample.metainfo
        if self._chosen is not None and 'stream_index' in info:
            return info['stream_index'] in self._chosen
        key = (int(info.get('round', 1)), str(info.get('condition', 'all')))
        if not self._wants(key[0]) or self._shown.get(key, 0) >= self.frames_per_condition:
            return False
        self._shown[key] = self._shown.get(key, 0) + 1
        return True

    @staticmethod
    def _predict_source(runner: Any, data_batch: Any) -> Optional[Sequence]:
        hook = source_hook(runner)
        return None if hook is None else hook.predict(data_batch)

    def _draw(
        self,
        runner: Any,
        info: dict,
        image: np.ndarray,
        parts: Sequence[tuple[str, np.ndarray]],
        label: Optional[np.ndarray],
        index: int,
    ) -> None:
        metainfo = runner.test_dataloader.dataset.metainfo
        classes = metainfo['classes']
        palette = metainfo.get('palette') or distinct_colours(len(classes))
        masks = [(name + self._score(mask, label, len(classes)), mask) for name, mask in parts]
        if label is not None:
            masks.append(('label', label))
        number, condition = int(info.get('round', 1)), str(info.get('condition', 'all'))
        frame = frame_name(info)
        title = f'{printable(condition)}, round {number}: {printable(frame)}'
        panel = condition_panel(image, masks, classes, palette, title, self.width)
        self._put(runner, condition, number, frame, index, panel)

    def _put(
        self, runner: Any, condition: str, number: int, frame: str, index: int, panel: np.ndarray
    ) -> None:
        """Writes the (height, width, 3) uint8 RGB panel of the frame ``index`` of the batch."""
        name = f'{number:02d}_{safe_file_name(frame)}.png'
        atomic_write_png(self._folder / safe_file_name(condition) / name, panel[..., ::-1])

    def _score(self, mask: np.ndarray, label: Optional[np.ndarray], num_classes: int) -> str:
        if label is None or label.shape != mask.shape:
            return ''
        tensors = (torch.from_numpy(mask), torch.from_numpy(label))
        score = mean_iou(class_areas(*tensors, num_classes, self.ignore_index))
        return '' if score is None else f', {score:.1f} mIoU'
