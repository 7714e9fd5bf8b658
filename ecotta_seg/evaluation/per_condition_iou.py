"""mIoU for each condition and round of a stream, whose length does not affect the memory use."""

from collections.abc import Iterable, Sequence
from typing import Optional

import torch
from mmengine.dist import all_gather_object, get_rank, get_world_size
from mmengine.evaluator import BaseMetric
from mmengine.logging import print_log
from mmseg.registry import METRICS
from torch import Tensor

from .class_areas import (
    MEAN_OVER,
    areas_of,
    confusion_counts,
    mean_iou,
    mean_of,
    scores,
)
from .confusion import LastRoundConfusion


class _Group:
    """Sums over the frames of one condition in one round."""

    def __init__(self, num_classes: int) -> None:
        self.areas = torch.zeros(3, num_classes, dtype=torch.int64)
        self.frames = 0
        self.frames_without_label = 0

    def add(self, areas: Optional[Tensor], sign: int = 1) -> None:
        if areas is None:
            self.frames_without_label += sign
        else:
            self.areas += sign * areas
            self.frames += sign


@METRICS.register_module()
class PerConditionIoU(BaseMetric):
    """Computes mean IoU, IoU per class and pixel accuracy for each condition and round.

    The metainfo of a frame gives its ``condition`` and ``round``; the defaults are ``'all'`` and 1.
    The metric keeps only (3, C) int64 sums per condition and round, and (C, C + 1) for the latest
    round, so memory does not depend on the number of frames. Frames without a label, or with all
    pixels ignored, are counted and reported but do not change the scores.

    IoU per class and pixel accuracy are equal to mmseg's ``IoUMetric``. The mean excludes classes
    that never occur in the condition's labels, even if the model predicts them. In mmseg such a
    class has IoU 0 after a single predicted pixel, so one wrong pixel can cost a whole class. If
    every predicted class is labelled somewhere, both means are equal; ``mean_over='occurring'``
    always gives mmseg's mean. The mIoU of a round is the mean of its conditions' mIoU, as in
    published tables, not the mIoU over all its frames.

    Several processes are merged exactly: sums are added, and a frame that the sampler repeats to
    fill the last batch is removed again.

    Args:
        ignore_index: The label of pixels that are not scored.
        mean_over: ``'labelled'`` or ``'occurring'``, see above.
        collect_device: See ``BaseMetric``.
        prefix: Prefix of the names that ``evaluate`` returns.

    Attributes:
        rounds: The result of the last ``evaluate``, see :meth:`summary`.
        mean_mIoU: The mean of the rounds' mIoU in percent, or None.
        confusion: Confusion of the last ``evaluate`` or ``merged_summary``, see
            ``LastRoundConfusion.document``; None without labels.
    """

    default_prefix = ''

    def __init__(
        self,
        ignore_index: int = 255,
        mean_over: str = 'labelled',
        collect_device: str = 'cpu',
        prefix: Optional[str] = None,
    ) -> None:
        super().__init__(collect_device=collect_device, prefix=prefix)
        if mean_over not in MEAN_OVER:
            raise ValueError(f'mean_over must be one of {MEAN_OVER}, got {mean_over!r}')
        self.ignore_index = ignore_index
        self.mean_over = mean_over
        self.rounds: list[dict] = []
        self.mean_mIoU: Optional[float] = None
        self.confusion: Optional[dict] = None
        self.reset()

    def reset(self) -> None:
        """Sets all sums to zero; ``rounds`` keeps the scores of the last ``evaluate``."""
        self._groups: dict[tuple[int, str], _Group] = {}
        self._confusion = LastRoundConfusion()
        self._seen = 0
        # Key, areas and confusion counts of each frame.
        self._latest: list[tuple[tuple[int, str], Optional[Tensor], Optional[Tensor]]] = []

    @staticmethod
    def among(metrics: Iterable[BaseMetric]) -> Optional['PerConditionIoU']:
        """Returns the first metric of this class in an evaluator's ``metrics``, or None."""
        return next((metric for metric in metrics if isinstance(metric, PerConditionIoU)), None)

    @property
    def classes(self) -> list[str]:
        """The C class names of the data set.

        Raises:
            ValueError: The data set has no class names.
        """
        classes = (self.dataset_meta or {}).get('classes')
        if not classes:
            raise ValueError(
                "PerConditionIoU needs the data set's class names; set METAINFO['classes'] in "
                'the data set or metric.dataset_meta'
            )
        return list(classes)

    def process(self, data_batch: object, data_samples: Sequence[dict]) -> None:
        """Adds the frames of a batch to the sums.

        Args:
            data_batch: Not used.
            data_samples: For each frame a dict with ``pred_sem_seg['data']`` and, if there is a
                label, ``gt_sem_seg['data']``: (1, H, W) integer class indices.

        Raises:
            ValueError: A label differs in size from its prediction or holds unknown ids.
        """
        self._latest = []
        for sample in data_samples:
            key = (int(sample.get('round', 1)), str(sample.get('condition', 'all')))
            counts = self._frame_counts(sample)
            areas = None if counts is None else areas_of(counts)
            group = self._groups.get(key)
            if group is None:
                group = self._groups[key] = _Group(len(self.classes))
            group.add(areas)
            self._confusion.add(key[0], counts)
            self._seen += 1
            self._latest.append((key, areas, counts))

    def _frame_counts(self, sample: dict) -> Optional[Tensor]:
        """(C, C + 1) int64 confusion of a frame, or None without labelled pixels."""
        if 'gt_sem_seg' not in sample:
            return None
        prediction = sample['pred_sem_seg']['data']
        label = sample['gt_sem_seg']['data'].to(prediction.device)
        try:
            counts = confusion_counts(
                prediction.reshape(prediction.shape[-2:]),
                label.reshape(label.shape[-2:]),
                len(self.classes),
                self.ignore_index,
            )
        except ValueError as error:
            name = sample.get('seg_map_path') or sample.get('img_path')
            raise ValueError(f'{name}: {error}' if name else str(error)) from None
        return counts if counts.any() else None

    def frame_areas(self, index: int = -1) -> Optional[Tensor]:
        """(3, C) int64 ``class_areas`` of a frame of the latest batch; None without a label."""
        return self._latest[index][1] if self._latest else None

    def frame_mIoU(self, index: int = -1) -> Optional[float]:
        """mIoU in percent of one frame of the latest batch; None if the frame has no label."""
        if not self._latest or self._latest[index][1] is None:
            return None
        return mean_iou(self._latest[index][1], self.mean_over)

    def running_mIoU(self, index: int = -1) -> Optional[float]:
        """mIoU in percent, up to now, of the condition and round of a frame of the latest batch."""
        if not self._latest:
            return None
        return mean_iou(self._groups[self._latest[index][0]].areas, self.mean_over)

    def summary(self) -> list[dict]:
        """Computes the scores of all frames that this process has added.

        Returns:
            For each round ``{'round', 'conditions', 'mIoU', 'aAcc', 'IoU'}``; for each condition
            in it ``{'mIoU', 'aAcc', 'frames', 'frames_without_label', 'IoU', 'left_out'}``.
            Percentages are from 0 to 100, None if a score does not exist; ``frames`` is the number
            of scored frames. A round's scores are means over its conditions.
        """
        return self._summarise(self._groups)

    def merged_summary(self, size: int) -> list[dict]:
        """Like :meth:`summary`, for the frames of all processes; each process has to call this.

        Args:
            size: The number of frames in the data set.
        """
        groups, confusion = self._merge(size)
        self.confusion = confusion.document(self.classes)
        return self._summarise(groups)

    def _summarise(self, groups: dict[tuple[int, str], _Group]) -> list[dict]:
        classes = self.classes
        rounds: dict[int, dict] = {}
        for (number, condition), group in groups.items():
            result = scores(group.areas, classes, self.mean_over)
            result['frames'] = group.frames
            result['frames_without_label'] = group.frames_without_label
            rounds.setdefault(number, {})[condition] = result
        return [
            {'round': number, 'conditions': rounds[number], **_means(rounds[number], classes)}
            for number in sorted(rounds)
        ]

    def evaluate(self, size: int) -> dict:
        """Merges the sums of all processes, sets ``rounds`` and ``mean_mIoU``, and resets the sums.

        Args:
            size: The number of frames in the data set.

        Returns:
            Percentages: ``'mIoU'`` and ``'aAcc'`` (means over rounds and conditions) and, if there
            is more than one condition or round, ``'round1/fog/mIoU'`` and so on. Scores that do not
            exist are left out.
        """
        groups, confusion = self._merge(size)
        self.confusion = confusion.document(self.classes) if groups else None
        self.rounds = self._summarise(groups) if groups else []
        self.mean_mIoU = mean_of([entry['mIoU'] for entry in self.rounds])
        self.reset()
        self._log_exclusions()
        metrics = {
            'mIoU': self.mean_mIoU,
            'aAcc': mean_of([entry['aAcc'] for entry in self.rounds]),
        }
        if len(groups) > 1:
            for entry in self.rounds:
                for condition, result in entry['conditions'].items():
                    name = f'round{entry["round"]}/{condition}'
                    metrics[f'{name}/mIoU'] = result['mIoU']
                    metrics[f'{name}/aAcc'] = result['aAcc']
        prefix = f'{self.prefix}/' if self.prefix else ''
        return {prefix + name: value for name, value in metrics.items() if value is not None}

    def compute_metrics(self, results: list) -> dict:
        """Not used: :meth:`evaluate` works on sums instead of a list of results."""
        raise NotImplementedError('PerConditionIoU keeps no list of results; call evaluate(size)')

    def _merge(self, size: int) -> tuple[dict[tuple[int, str], _Group], LastRoundConfusion]:
        """The sums of all processes, equal on each process."""
        world = get_world_size()
        if world == 1:
            return self._groups, self._confusion
        # mmengine's sampler assigns frames to ranks in turn and repeats the first ones until all
        # ranks have the same number. So at most the last frame of a rank is a repeated one.
        position = get_rank() + (self._seen - 1) * world
        if self._latest and self._seen == -(-size // world) and position >= size:
            key, areas, counts = self._latest[-1]
            self._groups[key].add(areas, sign=-1)
            self._confusion.add(key[0], counts, sign=-1)
        merged: dict[tuple[int, str], _Group] = {}
        confusion = LastRoundConfusion()
        for state in all_gather_object(self.state_dict()):
            of_rank = LastRoundConfusion.from_state(state['confusion'])
            confusion.add(of_rank.round, of_rank.counts)
            for key, group in _groups_from(state).items():
                total = merged.setdefault(key, _Group(group.areas.shape[1]))
                total.areas += group.areas
                total.frames += group.frames
                total.frames_without_label += group.frames_without_label
        return {key: group for key, group in merged.items() if _frames(group)}, confusion

    def _log_exclusions(self) -> None:
        """Logs the frames and classes that the means exclude."""
        entries = [item for entry in self.rounds for item in entry['conditions'].items()]
        missing = sum(result['frames_without_label'] for _, result in entries)
        if missing:
            print_log(f'{missing} frames without a label are not in the scores', 'current')
        told: dict[tuple, dict[str, None]] = {}
        for condition, result in entries:
            if result['left_out'] and result['frames']:
                told.setdefault(tuple(result['left_out']), {})[condition] = None
        for names, conditions in told.items():
            print_log(
                f'classes that never occur in {", ".join(conditions)} are left out of the mean: '
                f'{", ".join(names)}',
                'current',
            )

    def state_dict(self) -> dict:
        """Returns the sums as plain ints, strings and tensors."""
        groups = [
            {
                'round': number,
                'condition': condition,
                'areas': group.areas.clone(),
                'frames': group.frames,
                'frames_without_label': group.frames_without_label,
            }
            for (number, condition), group in self._groups.items()
        ]
        confusion = self._confusion.state_dict()
        return {'groups': groups, 'seen': self._seen, 'confusion': confusion}

    def load_state_dict(self, state: dict) -> None:
        """Restores a result of :meth:`state_dict`.

        Raises:
            ValueError: The state has another number of classes than the data set.
        """
        groups = _groups_from(state)
        if self.dataset_meta is not None:
            for group in groups.values():
                if group.areas.shape != (3, len(self.classes)):
                    raise ValueError(
                        f'the metric state has {group.areas.shape[1]} classes but the data set '
                        f'has {len(self.classes)}; resume with the config that wrote it'
                    )
        self._groups = groups
        self._confusion = LastRoundConfusion.from_state(state['confusion'])
        self._seen = int(state['seen'])
        self._latest = []


def _frames(group: _Group) -> int:
    return group.frames + group.frames_without_label


def _groups_from(state: dict) -> dict[tuple[int, str], _Group]:
    groups = {}
    for entry in state['groups']:
        group = _Group(entry['areas'].shape[1])
        group.areas += entry['areas']
        group.frames = int(entry['frames'])
        group.frames_without_label = int(entry['frames_without_label'])
        groups[int(entry['round']), entry['condition']] = group
    return groups


def _means(conditions: dict[str, dict], classes: Sequence[str]) -> dict:
    """Means over a round's conditions; for a class, over the conditions whose mean includes it."""
    return {
        'mIoU': mean_of([result['mIoU'] for result in conditions.values()]),
        'aAcc': mean_of([result['aAcc'] for result in conditions.values()]),
        'IoU': {
            name: mean_of(
                [r['IoU'][name] for r in conditions.values() if name not in r['left_out']]
            )
            for name in classes
        },
    }
