"""Writes the settings of a run before its first frame, and its report at its end."""

from pathlib import Path
from typing import Any, Optional

from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from mmengine.registry import HOOKS

from ..methods.frame_life import Turn
from ..report.report import write_report
from ..report.run_file import read_run_file, write_run_file
from ..startup.errors import sentence
from .run_facts import command, now, run_facts
from .run_record import RunRecord


@HOOKS.register_module()
class ReportHook(Hook):
    """Writes ``run.json`` before a test and ``report.html`` after it.

    The report is built from the files that the other hooks wrote into the work dir. If this fails,
    the hook logs the reason; the run and its results do not change.

    Args:
        checkpoint: Path of the source model's weights; None for the config's ``load_from``.
        work_dir: The folder to write to; None for the runner's ``work_dir``.
    """

    priority = Turn.REPORT

    def __init__(self, checkpoint: Optional[str] = None, work_dir: Optional[str] = None) -> None:
        self.checkpoint, self.work_dir = checkpoint, work_dir
        self._record: Optional[dict] = None

    def before_test(self, runner: Any) -> None:
        """Writes ``run.json``. A resumed run adds its command to those of the earlier parts."""
        if not is_main_process():
            return
        self._folder = Path(self.work_dir or runner.work_dir)
        try:
            self._record = run_facts(runner, self.checkpoint)
            if RunRecord(runner).resumed_at:
                self._resume(read_run_file(self._folder))
            write_run_file(self._folder, self._record)
        except (OSError, ValueError) as error:
            self._record = None
            runner.logger.warning(f'run.json is not written, and no report: {sentence(error)}')

    def _resume(self, before: Optional[dict]) -> None:
        if before is not None:
            self._record['started'] = before['started']
            self._record['commands'] = [*before['commands'], command()]

    def after_test(self, runner: Any) -> None:
        """Writes the report, on the main process."""
        if self._record is None:
            return
        try:
            write_run_file(self._folder, dict(self._record, finished=now()))
            path = write_report(self._folder)
        except Exception as error:
            # A failed report must not fail a long run: all results are already on disk.
            runner.logger.warning(
                f'the report is not written ({type(error).__name__}: {sentence(error)}): the '
                f'results are complete; python tools/report.py {self._folder} makes the report '
                'again'
            )
        else:
            runner.logger.info(f'the report is {path}')
