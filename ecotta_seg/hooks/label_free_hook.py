"""Averages a method's label-free mIoU estimates by condition."""

from collections.abc import Sequence
from typing import Any, Optional

from mmengine.dist import all_gather_object
from mmengine.hooks import Hook
from mmengine.registry import HOOKS

from ..evaluation.class_areas import mean_of
from ..methods.frame_life import Turn
from .run_record import RunRecord


@HOOKS.register_module()
class LabelFreeHook(Hook):
    """Reports the estimated mIoU of each condition and round, for method and source.

    The method makes the estimate (``AdaptationMethod.estimate``); without an estimate the hook does
    nothing. The result goes to the message hub as ``ecotta_seg/estimate``, a list with one entry
    per round: ``{'round', 'conditions': {NAME: {'estimated_mIoU', 'source_estimated_mIoU',
    'source_given'}}, 'estimated_mIoU', 'source_estimated_mIoU', 'source_given'}``. Estimates are in
    percent, None if no frame was estimated; ``source_given`` is the fraction of frames for which
    the method returned the source's prediction, 0 to 1. The numbers of a round are means over its
    conditions.

    Memory use does not depend on the number of frames. With several processes, the result covers
    the frames of all of them.
    """

    priority = Turn.MEASURE

    def __init__(self) -> None:
        self._groups: dict[tuple[int, str], dict] = {}

    def before_test(self, runner: Any) -> None:
        """Clears the sums, unless the run is resumed."""
        if not RunRecord(runner).resumed_at:
            self._groups = {}

    def after_test_iter(
        self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Sequence = ()
    ) -> None:
        """Adds the estimates of a batch to the sums."""
        estimate = getattr(runner.model, 'estimate', None)
        if estimate is None:
            return
        for index, sample in enumerate(outputs):
            key = (int(sample.get('round', 1)), str(sample.get('condition', 'all')))
            group = self._groups.setdefault(key, {'areas': None, 'frames': 0, 'given': 0})
            group['frames'] += 1
            group['given'] += bool(runner.model.last_step.source_given)
            if estimate.latest is not None:
                areas = estimate.latest[index]
                group['areas'] = areas if group['areas'] is None else group['areas'] + areas
        # Free the data of the frame.
        estimate.latest = None

    def after_test_epoch(self, runner: Any, metrics: Optional[dict] = None) -> None:
        """Writes the estimates to the message hub."""
        estimate = getattr(runner.model, 'estimate', None)
        if estimate is None:
            return
        rounds: dict[int, dict] = {}
        for (number, condition), group in _merged(all_gather_object(self._groups)).items():
            of_frames = None if group['areas'] is None else estimate.of(group['areas'])
            rounds.setdefault(number, {})[condition] = {
                'estimated_mIoU': None if of_frames is None else of_frames.adapted,
                'source_estimated_mIoU': None if of_frames is None else of_frames.source,
                'source_given': group['given'] / group['frames'],
            }
        RunRecord(runner).estimate = [
            {'round': number, 'conditions': found, **_means(found)}
            for number, found in sorted(rounds.items())
        ]

    def state_dict(self) -> dict:
        """Returns the sums of each round and condition."""
        return {
            'groups': [
                {'round': number, 'condition': condition, **group}
                for (number, condition), group in self._groups.items()
            ]
        }

    def load_state_dict(self, state: dict) -> None:
        """Restores a result of ``state_dict``."""
        self._groups = {}
        for entry in state['groups']:
            group = {key: entry[key] for key in ('areas', 'frames', 'given')}
            self._groups[int(entry['round']), entry['condition']] = group


def _merged(of_processes: Sequence[dict]) -> dict[tuple[int, str], dict]:
    merged: dict[tuple[int, str], dict] = {}
    for groups in of_processes:
        for key, group in groups.items():
            total = merged.setdefault(key, {'areas': None, 'frames': 0, 'given': 0})
            total['frames'] += group['frames']
            total['given'] += group['given']
            if group['areas'] is not None:
                before = 0.0 if total['areas'] is None else total['areas']
                total['areas'] = before + group['areas']
    return merged


def _means(conditions: dict[str, dict]) -> dict:
    names = ('estimated_mIoU', 'source_estimated_mIoU', 'source_given')
    return {name: mean_of([found[name] for found in conditions.values()]) for name in names}
