"""Runs the unchanged source after the adapted model on each frame of round 1."""

import time
from copy import deepcopy
from statistics import median
from typing import Optional

from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from torch import Tensor

from ..evaluation import PerConditionIoU
from ..methods.frame_life import Turn
from ..methods.source import SourceModel
from .run_record import RunRecord
from .settled_model import settle_model
from .weight_changes import bare_model


@HOOKS.register_module()
class SourceReferenceHook(Hook):
    """Scores the source model once on every condition.

    One round is enough, because the source's prediction does not depend on earlier frames. The
    scores go to the message hub as ``ecotta_seg/source``, the median time per frame as
    ``ecotta_seg/source_seconds``.

    Args:
        references: Configs of adaptation methods to score as well, by name. A method that the model
            does not support is left out (for example batch statistics, if there is no BatchNorm).
    """

    priority = Turn.REFERENCE

    def __init__(self, references: dict = None) -> None:
        self.reference_configs = dict(references or {})
        self.source = None
        self.others = {}
        self._scored = False
        self.last_seconds = 0.0
        """Seconds of the source and the references on the latest frame."""

    def before_test(self, runner) -> None:
        """Copies the model for the source and the references, before ``EcoTTAHook`` wraps it."""
        from ..methods import build_method

        settle_model(runner)
        model = bare_model(runner)
        self.source = SourceModel(deepcopy(model)).eval()
        # The source uses the same views as the method, if the config sets views for all.
        asked = runner.cfg.get('views')
        self.source.views = asked or 1
        self._metrics = {'source': self._metric(runner)}
        self._seconds = []
        for name, config in self.reference_configs.items():
            try:
                config = dict(config) if asked else dict(config, views=1)
                self.others[name] = build_method(config, deepcopy(model), asked).eval()
                self._metrics[name] = self._metric(runner)
            except ValueError as error:
                runner.logger.info(f'reference {name!r} is left out: {error}')

    @staticmethod
    def _metric(runner) -> PerConditionIoU:
        metric = PerConditionIoU()
        metric.dataset_meta = runner.test_evaluator.dataset_meta
        return metric

    def predict(self, data_batch: dict) -> list:
        """Returns the source's ``SegDataSample`` for each frame; the batch does not change."""
        return self.source.test_step(deepcopy(data_batch))

    def after_test_iter(self, runner, batch_idx, data_batch=None, outputs=None) -> None:
        """In round 1, the source and the references predict the batch and are scored."""
        self._scored = all(sample.get('round', 1) == 1 for sample in outputs)
        self.last_seconds = 0.0
        if not self._scored:
            return
        start = time.perf_counter()
        for name, model in {'source': self.source, **self.others}.items():
            samples = model.test_step(deepcopy(data_batch))
            self._metrics[name].process(None, [sample.to_dict() for sample in samples])
            if name == 'source':
                self._seconds.append(model.last_step.seconds / len(samples))
        self.last_seconds = time.perf_counter() - start

    def source_areas(self, index: int = -1) -> Optional[Tensor]:
        """Returns the (3, C) int64 ``class_areas`` of the source for a frame of the latest batch.

        Returns None after round 1, or if the frame has no label.
        """
        return self._metrics['source'].frame_areas(index) if self._scored else None

    def state_dict(self) -> dict:
        """Returns the sums of the scores, the times, and the state of the references."""
        return {
            'metrics': {name: metric.state_dict() for name, metric in self._metrics.items()},
            'seconds': list(self._seconds),
            'others': {name: model.method_state() for name, model in self.others.items()},
        }

    def load_state_dict(self, state: dict) -> None:
        """Restores a result of ``state_dict``, after ``before_test``."""
        for name, metric in self._metrics.items():
            metric.load_state_dict(state['metrics'][name])
        self._seconds = list(state['seconds'])
        for name, model in self.others.items():
            model.load_method_state(state['others'][name])

    def after_test_epoch(self, runner, metrics=None) -> None:
        """Writes the scores to the message hub."""
        results = {}
        for name, metric in self._metrics.items():
            summary = metric.merged_summary(len(runner.test_dataloader.dataset))
            if summary:
                results[name] = {k: summary[0][k] for k in ('conditions', 'mIoU', 'aAcc')}
        RunRecord(runner).source = results.pop('source', None)
        RunRecord(runner).references = results
        confusion = self._metrics['source'].confusion
        RunRecord(runner).source_confusion = confusion
        if self._seconds:
            RunRecord(runner).source_seconds = median(self._seconds)


def source_hook(runner) -> Optional[SourceReferenceHook]:
    """Returns the Runner's hook that holds the source model; None if there is none."""
    hooks = (hook for hook in runner.hooks if isinstance(hook, SourceReferenceHook))
    return next((hook for hook in hooks if hook.source is not None), None)
