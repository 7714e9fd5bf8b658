"""Puts an adaptation method in the place of the model that a test loop runs."""

from copy import deepcopy
from typing import Optional

import torch
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.registry import HOOKS

from ..adaptation import build_method
from ..checkpoint import check_fit
from ..config import inner_dataset, unlabelled_steps, with_adapters
from ..datasets.clear_frames import frames_of_dataset, frames_of_folder
from .guard_hook import add_event


@HOOKS.register_module()
class EcoTTAHook(Hook):
    """Makes any Runner's test adapt: ``runner.model`` becomes an ``AdaptationMethod``.

    Works under mmseg's own ``tools/test.py`` with three lines in a config::

        custom_imports = dict(imports=['ecotta_seg'])
        custom_hooks = [dict(type='EcoTTAHook')]
        adaptation = dict(type='ecotta', ...)

    A top-level ``views = N`` has any method predict N views, see ``prediction_views``; what is
    learned does not depend on it (CoTTA's labels go by ``adaptation.views``). Where a method goes
    back to its start of itself (SAR, RDumb), that is an event as a guard's are, ``'own_reset'``.

    Before the first frame the method measures on some clear frames what is usual to the model (see
    ``AdaptationMethod.calibrate``). These are the pictures of ``calibrate``, or frames of the
    config's ``calibration_dataloader``, or else of its ``clear_dataloader``. Labels are not used.

    Args:
        adaptation: Config of the method; None for the config's top-level ``adaptation``.
        adapters: File of warmed-up meta networks, put into the config of the method, or of the one
            that it is around.
        calibrate: Folder with pictures of clear weather; None for the config's data sets.
        calibration_frames: How many clear frames are used, at most; 0 leaves the estimates.
    """

    priority = 'HIGH'

    def __init__(
        self,
        adaptation: Optional[dict] = None,
        adapters: Optional[str] = None,
        calibrate: Optional[str] = None,
        calibration_frames: int = 12,
    ) -> None:
        self.adaptation = adaptation
        self.adapters = adapters
        self.calibrate, self.calibration_frames = calibrate, calibration_frames

    def after_load_checkpoint(self, runner, checkpoint: dict) -> None:
        """Refuses a checkpoint of another model: mmengine itself would load what fits of it."""
        if not getattr(runner, '_train_loop', None):
            path = getattr(runner, '_load_from', None) or 'given'
            model = runner.model.module if is_model_wrapper(runner.model) else runner.model
            check_fit(model, checkpoint.get('state_dict', checkpoint), path)

    def before_test(self, runner) -> None:
        """Builds the method around the model and swaps it in; a second test keeps it."""
        model = runner.model.module if is_model_wrapper(runner.model) else runner.model
        if hasattr(model, 'holding_still'):
            return
        config = self.adaptation if self.adaptation is not None else runner.cfg.get('adaptation')
        if config is None:
            raise ValueError(
                'EcoTTAHook found no adaptation method: put `adaptation = dict(type=...)` into '
                'the config, or give the hook one'
            )
        config = deepcopy(dict(config))
        if self.adapters is not None:
            with_adapters(config, self.adapters)
        # mmengine runs test loops under no_grad alone; parameters of the source stay as they are.
        try:
            with torch.enable_grad():
                runner.model = build_method(config, model, runner.cfg.get('views'))
        except TypeError as error:  # Text where a number is expected, and the like.
            raise ValueError(f'the `adaptation` {config} cannot be built: {error}') from error
        self._calibrate(runner)
        name = runner.cfg.get('method') if self.adaptation is None else None
        runner.message_hub.update_info('ecotta_seg/method', str(name or config['type']))
        runner.message_hub.update_info('ecotta_seg/views', runner.model.views)

    def _calibrate(self, runner) -> None:
        """Shows clear frames to the method, if it has a use for them."""
        method, cfg = runner.model, runner.cfg
        if not method.uses_clear_frames:
            return
        loader = cfg.get('calibration_dataloader') or cfg.get('clear_dataloader')
        if self.calibrate is not None:
            steps = inner_dataset(cfg).get('pipeline') or cfg.get('test_pipeline')
            frames = frames_of_folder(
                self.calibrate, unlabelled_steps(steps), self.calibration_frames, method.segmentor
            )
        elif loader is not None and self.calibration_frames:
            loader = dict(deepcopy(dict(loader)), num_workers=0, persistent_workers=False)
            dataset = runner.build_dataloader(loader).dataset
            frames = frames_of_dataset(dataset, self.calibration_frames, method.segmentor)
        else:
            runner.logger.warning(
                'there are no clear frames to calibrate on, so the method goes by estimates: '
                '--calibrate DIR names a folder with a dozen pictures of clear weather'
            )
            return
        method.calibrate(frames)
        runner.logger.info(f'calibrated on {len(frames)} clear frames')

    def after_test_iter(self, runner, batch_idx, data_batch=None, outputs=None) -> None:
        """Tells a reset that the method made of itself."""
        reason = getattr(getattr(runner.model, 'last_step', None), 'own_reset', None)
        if reason is not None:
            index = outputs[0].metainfo.get('stream_index') if outputs else None
            add_event(runner, {'event': 'own_reset', 'stream_index': index, 'reason': reason})
