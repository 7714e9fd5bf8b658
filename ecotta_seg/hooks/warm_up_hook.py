"""Keeps the checkpoints of a warm-up small and writes the adapters at its end."""

from copy import deepcopy
from functools import partial
from pathlib import Path
from typing import Optional

import torch
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.registry import HOOKS

from ..datasets.clear_frames import ClearFrames
from ..inference.windows import predict_frames
from ..layers.calibrated_batch_norm import calibrate_norms, calibrated_norms
from ..meta_networks import save_adapters
from ..methods import build_method
from ..methods.warm_up import source_model
from .calibration import clear_frames
from .settled_model import check_trained_classes


@HOOKS.register_module()
class WarmUpHook(Hook):
    """Saves only the meta networks in checkpoints and writes ``adapters.pth`` at the end.

    The frozen model comes from the source checkpoint and is not saved again. Resuming works as in
    mmengine's training.

    If the method needs a calibration on clear frames (see ``AdaptationMethod.calibrate``), this
    hook calibrates the method, and the adapter file holds the calibration. If frozen norms have the
    mode 'calibrated', the hook also calibrates them before the training, as a stream does.

    Args:
        filename: Name of the adapters file in the work dir.
        adaptation: Config of the method that has the meta networks. If None, the adapter file has
            no calibration.
        calibrate: Folder with pictures of clear weather; None for the first of ``loaders``.
        steps: The test pipeline without labels and synthetic weather.
        loaders: Configs of data loaders with clear frames; None entries are skipped.
        calibration_frames: Maximum number of clear frames; 0 for no calibration.
    """

    def __init__(
        self,
        filename: str = 'adapters.pth',
        adaptation: Optional[dict] = None,
        calibrate: Optional[str] = None,
        steps: tuple = (),
        loaders: tuple = (),
        calibration_frames: int = 12,
    ) -> None:
        self.filename, self.adaptation, self.calibrate = filename, adaptation, calibrate
        self.steps, self.loaders = steps, loaders
        self.calibration_frames = calibration_frames

    @staticmethod
    def _model(runner):
        return runner.model.module if is_model_wrapper(runner.model) else runner.model

    def before_train(self, runner) -> None:
        """Refuses training data whose classes differ from the model's; calibrates the norms."""
        model = self._model(runner)
        check_trained_classes(runner, model.segmentor)
        norms = calibrated_norms(model)
        if norms:
            frames = self._clear_frames(runner, model.segmentor)
            with model.encoder.bypass(), torch.no_grad():
                calibrate_norms(norms, frames or (), partial(predict_frames, model.segmentor))

    def before_save_checkpoint(self, runner, checkpoint: dict) -> None:
        """Removes the frozen weights from the checkpoint."""
        ours = tuple(name for name in checkpoint['state_dict'] if '.meta_networks.' in name)
        checkpoint['state_dict'] = {name: checkpoint['state_dict'][name] for name in ours}

    def after_load_checkpoint(self, runner, checkpoint: dict) -> None:
        """Adds the frozen weights again, so that mmengine reports no missing weights."""
        for name, value in self._model(runner).state_dict().items():
            if '.meta_networks.' not in name:
                checkpoint['state_dict'].setdefault(name, value)

    def after_train(self, runner) -> None:
        """Writes the adapters, and adds a calibration to the file if the method needs one."""
        if runner.rank != 0:
            return
        path = Path(runner.work_dir) / self.filename
        save_adapters(self._model(runner).encoder, path)
        runner.logger.info(f'The warmed-up meta networks are in {path}')
        if self.adaptation is None:
            return
        cfg = runner.cfg.model
        trust = cfg.get('trust_checkpoint', False)
        source = source_model(deepcopy(cfg.segmentor), cfg.checkpoint, trust)
        method = build_method(dict(deepcopy(self.adaptation), adapters=str(path)), source).eval()
        method = method.to(next(self._model(runner).parameters()).device)
        frames = None
        if method.needs_clear_frames:
            frames = self._clear_frames(runner, method.segmentor)
        if frames is not None:
            method.calibrate_all(frames)
            save_adapters(method.encoder, path, method.calibration())
            runner.logger.info(f'{path} has a calibration on {len(frames)} clear frames')

    def _clear_frames(self, runner, segmentor) -> Optional[ClearFrames]:
        number, folder = self.calibration_frames, self.calibrate
        return clear_frames(runner, segmentor, number, folder, self.steps, self.loaders)
