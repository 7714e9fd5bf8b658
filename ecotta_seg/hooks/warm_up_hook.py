"""Keeps the checkpoints of a warm-up small, and writes the adapters when it is done."""

from pathlib import Path

from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.registry import HOOKS

from ..meta_networks import save_adapters
from .settled_model import check_trained_classes


@HOOKS.register_module()
class WarmUpHook(Hook):
    """Checkpoints hold the meta networks alone; ``adapters.pth`` is written at the end.

    The frozen model is the source checkpoint's and is never saved again. Resuming works as
    mmengine's training does.

    Args:
        filename: Name of the adapters file in the work dir.
    """

    def __init__(self, filename: str = 'adapters.pth') -> None:
        self.filename = filename

    @staticmethod
    def _model(runner):
        return runner.model.module if is_model_wrapper(runner.model) else runner.model

    def before_train(self, runner) -> None:
        """Refuses training data with other classes than the model's."""
        check_trained_classes(runner, self._model(runner).segmentor)

    def before_save_checkpoint(self, runner, checkpoint: dict) -> None:
        """Takes the frozen weights out."""
        ours = tuple(name for name in checkpoint['state_dict'] if '.meta_networks.' in name)
        checkpoint['state_dict'] = {name: checkpoint['state_dict'][name] for name in ours}

    def after_load_checkpoint(self, runner, checkpoint: dict) -> None:
        """Puts the frozen weights back in, so that nothing is reported as missing."""
        for name, value in self._model(runner).state_dict().items():
            if '.meta_networks.' not in name:
                checkpoint['state_dict'].setdefault(name, value)

    def after_train(self, runner) -> None:
        """Writes the adapters."""
        if runner.rank == 0:
            path = Path(runner.work_dir) / self.filename
            save_adapters(self._model(runner).encoder, path)
            runner.logger.info(f'The warmed-up meta networks are in {path}')
