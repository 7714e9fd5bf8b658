"""Collects the results of the other hooks, writes ``results.json`` and prints the table."""

import logging
from collections.abc import Sequence
from typing import Any, Optional

from mmengine.dist import all_gather_object, get_world_size, is_main_process
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.registry import HOOKS
from rich.console import Console

from ..evaluation.estimates import source_with_estimates, with_estimates
from ..evaluation.per_condition_iou import PerConditionIoU
from ..evaluation.results import Results, save_results
from ..evaluation.table import print_results
from ..methods.frame_life import Turn
from ..resume.run_identity import code_versions
from .run_record import RunRecord

_PARTS = ('source', 'clear', 'memory', 'seconds_per_frame', 'events')
_EXTRA = ('references', 'views')


@HOOKS.register_module()
class ResultsHook(Hook):
    """Writes ``results.json`` and ``results.csv`` after a test and prints the table.

    The hook runs after the hooks that measure, and reads their results from the ``RunRecord``. A
    part of the results that no hook measured is ``null``. If a part does not fit the schema, the
    hook leaves it out and logs a warning, and still writes the other parts. The scores come from
    the evaluator's ``PerConditionIoU``; the hook writes them to the record, too. The key ``code``
    holds the versions of the packages, with a digest of this package's files.

    Args:
        work_dir: The folder to write to; None for the runner's ``work_dir`` (not its
            time-stamped log folder).
        show: Whether to print the table.
        console: Console for the table; None for the terminal.
    """

    priority = Turn.RESULTS

    def __init__(
        self,
        work_dir: Optional[str] = None,
        show: bool = True,
        console: Optional[Console] = None,
    ) -> None:
        self.work_dir = work_dir
        self.show = show
        self.console = console

    def after_test_epoch(self, runner: Any, metrics: Optional[dict] = None) -> None:
        """Writes the scores to the message hub."""
        metric = PerConditionIoU.among(runner.test_evaluator.metrics)
        if metric is not None:
            RunRecord(runner).rounds = metric.rounds
            RunRecord(runner).mean_mIoU = metric.mean_mIoU
            RunRecord(runner).confusion = metric.confusion

    def after_test(self, runner: Any) -> None:
        """Prints the table and writes the files, on the main process."""
        _merge_events(runner)
        if not is_main_process():
            return
        document = self.gather(runner)
        # First, because a full disk must not cost the scores of a long run.
        if self.show:
            print_results(document, self.console)
        path, _ = save_results(document, self.work_dir or runner.work_dir)
        runner.logger.info(f'results are in {path}')

    def gather(self, runner: Any) -> dict:
        """Builds the results document, schema 1, from the runner's message hub."""
        record = RunRecord(runner)
        method = str(record.method or _method_name(runner.model))
        rounds: Sequence = with_estimates(record.rounds, record.estimate)
        parts = {}
        for name in _PARTS:
            value = getattr(record, name)
            if value is None:
                continue
            try:
                if name == 'source':
                    value = source_with_estimates(value, record.estimate)
                Results(method, **{name: value}).document()
                parts[name] = value
            except (ValueError, TypeError, AttributeError) as error:
                runner.logger.log(logging.WARNING, f'{name} is not in results.json: {error}')
        extra = {'code': code_versions(), **record.extra}
        more = {name: getattr(record, name) for name in _EXTRA}
        extra.update({name: value for name, value in more.items() if value is not None})
        if record.confusion is not None:
            extra['confusion'] = {'method': record.confusion, 'source': record.source_confusion}
        try:
            return Results(method, rounds, extra=extra, **parts).document()
        except ValueError as error:
            runner.logger.log(logging.WARNING, f'extra keys are not in results.json: {error}')
            return Results(method, rounds, **parts).document()


def _merge_events(runner: Any) -> None:
    """Collects the events of all processes, with their ranks, in the record of each process."""
    if get_world_size() == 1:
        return
    own = RunRecord(runner).events
    events = [
        dict(event, rank=rank)
        for rank, found in enumerate(all_gather_object(own))
        for event in found
    ]
    RunRecord(runner).events = events


def _method_name(model: Any) -> str:
    """The method's name, for a run in which no hook has recorded a name."""
    model = model.module if is_model_wrapper(model) else model
    return type(model).__name__ if hasattr(model, 'adaptable_parameters') else 'source'
