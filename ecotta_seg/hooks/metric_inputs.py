"""Gives third-party metrics only labelled frames, if they need labels, and unique file names."""

import os.path as osp
from collections.abc import Mapping, Sequence
from typing import Any, Callable, Optional

import torch
from mmengine.dist import all_gather_object
from mmengine.evaluator import BaseMetric

from ..evaluation.per_condition_iou import PerConditionIoU
from .export_names import distinct_names

_LABEL = 'gt_sem_seg'
# Errors of a metric that looks for a missing label.
_NO_LABEL = (KeyError, AttributeError, TypeError)


def prepare_metrics(runner: Any) -> None:
    """Prepares the metrics of a test for a stream of conditions and rounds.

    A frame without a label reaches only metrics that need no label. A metric that needs labels and
    gets no labelled frame gives no score. If a metric writes predictions (``output_dir``) and
    several frames have the same file name, the names begin with round and condition.

    Args:
        runner: The Runner, in ``before_test``.
    """
    dataset = runner.test_dataloader.dataset
    for metric in runner.test_evaluator.metrics:
        if isinstance(metric, PerConditionIoU) or hasattr(metric, 'own_inputs'):
            continue
        inputs = _Inputs(metric, runner.logger, _names_of(metric, dataset))
        metric.process, metric.evaluate = inputs.process, inputs.evaluate
        metric.own_inputs = True


def _names_of(metric: BaseMetric, dataset: Any) -> Optional[Callable[[Mapping], str]]:
    """Returns ``distinct_names`` for a metric that writes files; None for other metrics."""
    return None if getattr(metric, 'output_dir', None) is None else distinct_names(dataset)


class _Inputs:
    """Filters the samples that an evaluator gives to one of its metrics.

    Args:
        metric: The metric, whose original methods are called.
        logger: Gets a warning about frames that the metric does not get.
        rename: Maps a sample to the name of its file; None keeps the names.
    """

    def __init__(self, metric: BaseMetric, logger: Any, rename: Optional[Callable]) -> None:
        self.metric, self.logger, self.rename = metric, logger, rename
        self._process, self._evaluate = metric.process, metric.evaluate
        self.needs_labels = False
        self.left_out = 0

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        """Passes on the samples that the metric can process."""
        if self.rename is not None:
            data_samples = [self._renamed(sample) for sample in data_samples]
        labelled = [sample for sample in data_samples if _LABEL in sample]
        if len(labelled) == len(data_samples):
            self._process(data_batch, data_samples)
            return
        for sample in data_samples:
            if _LABEL in sample:
                self._process(data_batch, [sample])
            else:
                self._try(data_batch, sample)

    def _renamed(self, sample: dict) -> dict:
        path = sample.get('img_path')
        if not path:
            return sample
        return {**sample, 'img_path': osp.join(osp.dirname(path), self.rename(sample))}

    def _try(self, data_batch: Any, sample: dict) -> None:
        if not self.needs_labels:
            if self._takes(data_batch, sample):
                return
            self.needs_labels = True
        if getattr(self.metric, 'output_dir', None) is not None:
            # Only so that the metric writes the file of the prediction.
            there = len(self.metric.results)
            mask = sample['pred_sem_seg']['data']
            ignored = torch.full_like(mask, getattr(self.metric, 'ignore_index', 255))
            self._takes(data_batch, {**sample, _LABEL: {'data': ignored}})
            del self.metric.results[there:]
        self.left_out += 1

    def _takes(self, data_batch: Any, sample: dict) -> bool:
        there = len(self.metric.results)
        try:
            self._process(data_batch, [sample])
            return True
        except _NO_LABEL:
            del self.metric.results[there:]
            return False

    def evaluate(self, size: int) -> dict:
        """Returns the metric's scores; empty if the metric needs labels and no frame has one."""
        name = type(self.metric).__name__
        counts = all_gather_object((len(self.metric.results), self.left_out))
        left_out, self.left_out = sum(count for _, count in counts), 0
        if left_out:
            self.logger.warning(f'{left_out} frames without a label are not in {name}')
        if left_out and not any(results for results, _ in counts):
            self.logger.warning(f'{name} gives no score: no frame has a label')
            return {}
        return self._evaluate(size)
