"""A test loop that can resume a stream, and saves the stream's state if an error occurs."""

from typing import Any

from mmengine.registry import LOOPS
from mmengine.runner.loops import TestLoop

from ..datasets.checks.frame_error import FrameError


@LOOPS.register_module()
class ResumableTestLoop(TestLoop):
    """mmengine's ``TestLoop``, which can resume a stream that has a ``StreamStateHook``.

    Any tool that runs a config can use this loop. With
    ``test_cfg=dict(type='ResumableTestLoop')`` in the config,
    ``python tools/test.py CONFIG CHECKPOINT --cfg-options test_cfg.resume=True`` resumes from the
    newest state in the work dir.

    Args:
        resume: Whether to resume from the newest saved state.
        **kwargs: Arguments of ``TestLoop``.
    """

    def __init__(self, *args: Any, resume: bool = False, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.resume = resume

    def run(self) -> dict:
        """Runs the test. If an error occurs, ``StreamStateHook`` may save the state first."""
        try:
            return super().run()
        except Exception as error:
            bad_file = error.path if isinstance(error, FrameError) else None
            for hook in self.runner.hooks:
                if hasattr(hook, 'save_between_frames'):
                    hook.save_between_frames(self.runner, bad_file)
            raise
        finally:
            for hook in self.runner.hooks:
                if hasattr(hook, 'restore_signals'):
                    hook.restore_signals()
