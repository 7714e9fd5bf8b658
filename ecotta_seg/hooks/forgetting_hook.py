"""Scores the source domain before and after the stream, which measures forgetting."""

import time
from copy import deepcopy
from typing import Optional

from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import Runner

from ..config.old_keys import rename_old_keys
from ..evaluation import PerConditionIoU
from ..methods.frame_life import Turn
from ..resume.stop_signals import leave_signals_to_parent
from .progress import progress
from .run_record import RunRecord
from .run_time import LONG, duration
from .settled_model import check_same_classes
from .source_reference_hook import source_hook

# Number of clear-day frames that are timed for the estimated duration.
_TIMED = 3


@HOOKS.register_module()
class ForgettingHook(Hook):
    """Measures the mIoU of models on the clear-day set, without learning.

    The models are the source model, the adapted model before its first frame and after its last,
    and each reference model of ``SourceReferenceHook``. The mIoUs go to the message hub as
    ``ecotta_seg/clear``.

    Args:
        dataloader: Config of the clear-day dataloader; None for the config's
            ``forgetting_dataloader``. Without either the hook does nothing.
    """

    priority = Turn.CLEAR_DAY

    def __init__(self, dataloader: Optional[dict] = None) -> None:
        self.dataloader_config = dataloader
        self.dataloader = None
        self._scores = {}
        self.seconds = {}
        """Seconds of each pass over the clear day, by name."""

    def before_test(self, runner) -> None:
        """Scores the source, the references, and the adapted model before its first frame."""
        rename_old_keys(runner.cfg)
        config = self.dataloader_config or runner.cfg.get('forgetting_dataloader')
        if config is None:
            return
        self.dataloader = Runner.build_dataloader(deepcopy(dict(config)), seed=runner.seed)
        leave_signals_to_parent(self.dataloader)
        check_same_classes(runner, self.dataloader.dataset, 'the forgetting_dataloader')
        if 'before' in self._scores:
            return  # A resumed run: its state has the scores from before the first frame.
        reference = source_hook(runner)
        if reference is not None:
            source = reference.source
            self._scores['source'] = self._score(runner, source, 'clear day, source')
            references = {
                name: self._score(runner, model, f'clear day, {name}')
                for name, model in reference.others.items()
            }
            if references:
                self._scores['references'] = references
        self._scores['before'] = self._score(runner, runner.model.eval(), 'clear day, before')

    def after_test(self, runner) -> None:
        """Scores the adapted model at the end of the stream."""
        if self.dataloader is None:
            return
        self._scores['after'] = self._score(runner, runner.model, 'clear day, after')
        RunRecord(runner).clear = dict(self._scores)
        self._scores = {}

    def state_dict(self) -> dict:
        """Returns the scores from before the first frame."""
        return dict(self._scores)

    def load_state_dict(self, state: dict) -> None:
        """Restores a result of ``state_dict``; these scores are not measured again."""
        self._scores = dict(state)

    def _log_time(self, runner, seconds: float) -> None:
        """If the clear day takes long, logs its time and the minimum time of the stream."""
        reference = source_hook(runner)
        passes = 2 + (1 + len(reference.others) if reference is not None else 0)
        clear = seconds * len(self.dataloader) * passes
        frames = len(runner.test_dataloader)
        if clear < LONG:
            return
        runner.logger.info(
            f'the clear day takes about {duration(clear)} ({passes} passes over '
            f'{len(self.dataloader.dataset)} frames, before and after the stream), and the '
            f'{frames} frames of the stream at least {duration(seconds * frames)}; '
            '`--cfg-options forgetting_dataloader=None` leaves the clear day out'
        )

    def _score(self, runner, model, title: str) -> Optional[float]:
        metric = PerConditionIoU()
        metric.dataset_meta = self.dataloader.dataset.metainfo
        start = first = time.perf_counter()
        with model.adaptation_disabled():
            for number, batch in enumerate(progress(self.dataloader, title)):
                samples = model.test_step(batch)
                metric.process(None, [sample.to_dict() for sample in samples])
                if number == _TIMED and not self.seconds:
                    # The first frame is slower than the others.
                    self._log_time(runner, (time.perf_counter() - first) / _TIMED)
                first = first if number else time.perf_counter()
        self.seconds[title] = time.perf_counter() - start
        summary = metric.merged_summary(len(self.dataloader.dataset))
        return summary[0]['mIoU'] if summary else None
