"""For each condition, saves the frames with the largest and the smallest gain over the source."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Optional

from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from mmengine.registry import HOOKS

from ..evaluation.class_areas import mean_iou
from ..evaluation.per_condition_iou import PerConditionIoU
from ..methods.frame_life import Turn
from ..report.frame_file import BEST, FOLDER, WORST, write_frame_file
from ..startup.errors import sentence
from ..visualization.frame_picture import distinct_colours, frame_name, rgb_image
from .sample_masks import class_mask
from .source_reference_hook import source_hook


@HOOKS.register_module()
class BestAndWorstHook(Hook):
    """Writes ``report_pictures/<condition>_best.json`` and ``..._worst.json`` into the work dir.

    Each file holds the frame, the label and the masks of the source and of the adapted model,
    scaled down for ``report.html``. The best frame of a condition is the one with the highest
    difference: its mIoU in the last round minus the source's mIoU on the same frame. The worst
    frame has the lowest difference. The hook needs a ``SourceReferenceHook``, labels and the
    evaluator's ``PerConditionIoU``; without them the hook writes nothing. The source predicts a
    frame again only if the hook writes that frame. The hook keeps one number for each frame of a
    round in memory, and no picture.

    Args:
        out_dir: The folder to write to; None for the runner's ``work_dir``.
        width: Width of each picture in pixels.

    Raises:
        ValueError: ``width`` is below 1.
    """

    priority = Turn.KEEP

    def __init__(self, out_dir: Optional[str] = None, width: int = 480) -> None:
        if width < 1:
            raise ValueError(f'BestAndWorstHook: width must be at least 1 pixel, got {width}')
        self.out_dir, self.width = out_dir, width
        self._source: dict[tuple[str, str], float] = {}
        self._kept: dict[tuple[str, str], float] = {}

    def before_test(self, runner: Any) -> None:
        """Forgets all frames. If the run resumes, its saved state is loaded afterwards."""
        self._folder = Path(self.out_dir or runner.work_dir)
        self._last_round = int(getattr(runner.test_dataloader.dataset, 'rounds', 1))
        self._source, self._kept = {}, {}
        self._writes = is_main_process()

    def before_test_epoch(self, runner: Any) -> None:
        """Deletes the files of an earlier run, unless the saved state lists written frames."""
        if self._writes and not self._kept:
            for path in (self._folder / FOLDER).glob('*.json'):
                path.unlink(missing_ok=True)

    def after_test_iter(
        self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Sequence = ()
    ) -> None:
        """Writes each frame of a batch that is better or worse than all earlier ones."""
        source = source_hook(runner)
        metric = PerConditionIoU.among(runner.test_evaluator.metrics)
        if not self._writes or source is None or metric is None:
            return
        wanted = []
        for index, sample in enumerate(outputs):
            info = sample.metainfo
            key = (str(info.get('condition', 'all')), str(info.get('img_path', index)))
            areas = source.source_areas(index)
            if areas is not None:
                self._source[key] = mean_iou(areas, metric.mean_over)
            adapted = metric.frame_mIoU(index)
            last = int(info.get('round', 1)) == self._last_round
            if last and adapted is not None and key in self._source:
                kinds = self._kinds(key[0], adapted - self._source[key])
                wanted += [(index, kind, self._source[key], adapted) for kind in kinds]
        if wanted:
            self._write(runner, data_batch, outputs, wanted)

    def _kinds(self, condition: str, difference: float) -> list[str]:
        """Returns whether a frame is the best or the worst (or both) of its condition up to now.

        The difference is kept for the comparison with later frames.
        """
        kinds = []
        for kind, sign in ((BEST, 1), (WORST, -1)):
            kept = self._kept.get((condition, kind))
            if kept is None or sign * difference > sign * kept:
                self._kept[condition, kind] = difference
                kinds.append(kind)
        return kinds

    def _write(self, runner: Any, data_batch: Any, outputs: Sequence, wanted: Sequence) -> None:
        metainfo = runner.test_dataloader.dataset.metainfo
        classes = metainfo['classes']
        palette = metainfo.get('palette') or distinct_colours(len(classes))
        # Read the masks first: the source may write its prediction into the same samples.
        adapted = {index: class_mask(outputs[index]) for index, *_ in wanted}
        labels = {index: class_mask(outputs[index], 'gt_sem_seg') for index, *_ in wanted}
        source = source_hook(runner).predict(data_batch)
        for index, kind, source_score, score in wanted:
            info = outputs[index].metainfo
            facts = {
                'condition': str(info.get('condition', 'all')),
                'kind': kind,
                'frame': frame_name(info),
                'round': int(info.get('round', 1)),
                'stream_index': int(info.get('stream_index', -1)),
                'source_mIoU': source_score,
                'adapted_mIoU': score,
                'difference': score - source_score,
            }
            masks = [('source', class_mask(source[index])), ('adapted', adapted[index])]
            masks.append(('label', labels[index]))
            image = rgb_image(data_batch['inputs'][index])
            try:
                write_frame_file(self._folder, facts, image, masks, classes, palette, self.width)
            except OSError as error:
                self._writes = False
                runner.logger.warning(
                    f'the best and worst frames are not kept from here on: {sentence(error)}'
                )
                return

    def state_dict(self) -> dict:
        """Returns the source's mIoU of each frame, and the differences of the written frames."""
        return {
            'source': [[*key, value] for key, value in self._source.items()],
            'kept': [[*key, value] for key, value in self._kept.items()],
        }

    def load_state_dict(self, state: dict) -> None:
        """Restores a result of ``state_dict``, after ``before_test``."""
        self._source = {(name, path): value for name, path, value in state['source']}
        self._kept = {(name, kind): value for name, kind, value in state['kept']}
