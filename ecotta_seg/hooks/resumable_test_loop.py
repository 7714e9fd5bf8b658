"""mmengine's test loop, with a word on resuming and a chance to save when it dies."""

from typing import Any

from mmengine.registry import LOOPS
from mmengine.runner.loops import TestLoop

from ..datasets.frame_error import FrameError


@LOOPS.register_module()
class ResumableTestLoop(TestLoop):
    """``TestLoop`` for use with ``StreamStateHook``, under any tool that runs a config.

    ``python tools/test.py CONFIG CHECKPOINT --cfg-options test_cfg.resume=True`` goes on from the
    newest state in the work dir, where ``test_cfg=dict(type='ResumableTestLoop')``.

    Args:
        resume: Go on from the newest saved state.
        **kwargs: Of ``TestLoop``.
    """

    def __init__(self, *args: Any, resume: bool = False, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.resume = resume

    def run(self) -> dict:
        """Runs the test; on an error hooks may save what is done."""
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
