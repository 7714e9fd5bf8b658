"""Puts an adaptation method in the place of the model that a test loop runs."""

from contextlib import AbstractContextManager, nullcontext
from copy import deepcopy
from typing import Optional

import torch
from mmengine.hooks import Hook
from mmengine.registry import HOOKS

from ..adaptation import build_method
from ..checkpoint import check_fit
from ..class_names import names_in_checkpoint
from ..config import merged_estimate, method_name, with_adapters
from ..random_state import seeded
from .calibration import CalibrationHook
from .export_names import prepare_pictures
from .guard_hook import add_event
from .label_check import look_at_labels
from .learning_hook import LearningHook
from .metric_inputs import prepare_metrics
from .settled_model import refuse_augmentation, settle_model
from .source_reference_hook import SourceReferenceHook
from .weight_watch import (
    bare_model,
    copied_weights,
    different,
    put_back,
    refuse_changes,
    weight_digests,
)


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

    A top-level ``estimate`` has any method estimate its mIoU without labels: options of
    ``LabelFreeEstimate``, which go before the method's own, or True, or False for no estimate.

    Before the first frame the method measures on some clear frames what is usual to the model (see
    ``AdaptationMethod.calibrate``). These are the pictures of ``calibrate``, or frames of the
    config's ``calibration_dataloader``, or else of its ``clear_dataloader``. Labels are not used.
    If the file of adapters has a calibration, that one is taken, unless ``calibrate`` is given.

    Other hooks may not change the weights: the average of an ``EMAHook`` is put in before the
    source is copied; another hook that changes weights before the first frame stops the test, and
    changes after the last frame are undone.

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
        self._built, self._left = {}, {}

    def after_load_checkpoint(self, runner, checkpoint: dict) -> None:
        """Refuses a checkpoint of another model: mmengine itself would load what fits of it."""
        if not getattr(runner, '_train_loop', None):
            path = getattr(runner, '_load_from', None) or 'given'
            check_fit(bare_model(runner), checkpoint.get('state_dict', checkpoint), path)
            bare_model(runner).class_names = names_in_checkpoint(checkpoint.get('meta'))

    def before_run(self, runner) -> None:
        """Has the method calibrated after all hooks that may go on from a saved state."""
        if not any(isinstance(hook, CalibrationHook) for hook in runner.hooks):
            runner.register_hook(CalibrationHook(self.calibrate, self.calibration_frames))
        if not any(isinstance(hook, LearningHook) for hook in runner.hooks):
            runner.register_hook(LearningHook())

    def before_test(self, runner) -> None:
        """Builds the method around the model and swaps it in; a second test keeps it."""
        model = bare_model(runner)
        if hasattr(model, 'holding_still'):
            return
        settle_model(runner)
        for hook in runner.hooks:
            if isinstance(hook, SourceReferenceHook) and hook.source is not None:
                kept = weight_digests(hook.source.segmentor)
                refuse_changes(runner, different(kept, weight_digests(model)))
        config = self.adaptation if self.adaptation is not None else runner.cfg.get('adaptation')
        if config is None:
            raise ValueError(
                'EcoTTAHook found no adaptation method: put `adaptation = dict(type=...)` into '
                'the config, or give the hook one'
            )
        config = deepcopy(dict(config))
        if self.adapters is not None:
            with_adapters(config, self.adapters)
        if runner.cfg.get('estimate') is not None:
            config['estimate'] = merged_estimate(config.get('estimate'), runner.cfg.estimate)
        # mmengine runs test loops under no_grad alone; parameters of the source stay as they are.
        try:
            with torch.enable_grad(), _seeded(runner.cfg):
                runner.model = build_method(config, model, runner.cfg.get('views'))
        except TypeError as error:  # Text where a number is expected, and the like.
            raise ValueError(f'the `adaptation` {config} cannot be built: {error}') from error
        name = runner.cfg.get('method') if self.adaptation is None else None
        runner.message_hub.update_info('ecotta_seg/method', str(name or method_name(config)))
        runner.message_hub.update_info('ecotta_seg/views', runner.model.views)
        look_at_labels(runner)
        prepare_metrics(runner)
        prepare_pictures(runner)
        # A stream that is resumed goes on with learned tensors of its own.
        learned = runner.model.learned_tensors().values()
        resumed = any(getattr(hook, 'resume', False) for hook in (*runner.hooks, runner.test_loop))
        but = frozenset(map(id, learned)) if resumed else frozenset()
        self._built = weight_digests(runner.model, but)

    def before_test_iter(self, runner, batch_idx, data_batch=None) -> None:
        """Refuses weights that another hook has changed since the method was built."""
        if self._built:
            refuse_augmentation(runner)
            refuse_changes(runner, different(self._built, weight_digests(bare_model(runner))))
            self._built = {}

    def after_test_epoch(self, runner, metrics=None) -> None:
        """Remembers the weights that the stream has left."""
        self._left = copied_weights(bare_model(runner))

    def after_test(self, runner) -> None:
        """Undoes what other hooks did to the weights since the last frame."""
        changed, self._left = put_back(bare_model(runner), self._left), {}
        if changed:
            runner.logger.warning(
                f'a hook changed {len(changed)} weights after the last frame, {changed[0]} first: '
                'they are put back, so that the clear day is measured on what the stream has left'
            )

    def after_test_iter(self, runner, batch_idx, data_batch=None, outputs=None) -> None:
        """Tells a reset that the method made of itself."""
        reason = getattr(getattr(runner.model, 'last_step', None), 'own_reset', None)
        if reason is not None:
            index = outputs[0].metainfo.get('stream_index') if outputs else None
            add_event(runner, {'event': 'own_reset', 'stream_index': index, 'reason': reason})


def _seeded(cfg) -> AbstractContextManager:
    """Fixes what new layers are drawn from, where the config has no seed: mmengine then takes
    another one each time, and a stopped stream could not be resumed."""
    if (cfg.get('randomness') or {}).get('seed') is not None:
        return nullcontext()
    return seeded(0)
