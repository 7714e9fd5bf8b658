"""Replaces the model of a test loop with an adaptation method."""

from contextlib import AbstractContextManager, nullcontext
from copy import deepcopy
from typing import Optional

import torch
from mmengine.hooks import Hook
from mmengine.registry import HOOKS

from ..config.method import merged_estimate, method_name, with_adapters
from ..config.old_keys import rename_old_keys
from ..config.old_wrapping import without_wrapping
from ..files.checkpoint import check_fit
from ..methods import build_method
from ..methods.frame_life import Turn, frame_events
from ..names.class_names import names_in_checkpoint
from ..resume.random_state import seeded
from .calibration import CalibrationHook
from .export_names import prepare_pictures
from .guard_hook import add_event
from .label_check import look_at_labels
from .learning_hook import LearningHook
from .metric_inputs import prepare_metrics
from .run_record import RunRecord
from .settled_model import refuse_augmentation, settle_model
from .source_reference_hook import SourceReferenceHook
from .weight_changes import (
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

    The hook works under mmseg's own ``tools/test.py``. The config needs three lines::

        custom_imports = dict(imports=['ecotta_seg'])
        custom_hooks = [dict(type='EcoTTAHook')]
        adaptation = dict(type='ecotta', ...)

    A top-level ``views = N`` averages the predictions of any method over N augmented copies of the
    frame, see ``prediction_views``. Learning is unchanged (``adaptation.views`` sets the views of
    CoTTA's pseudo-labels). If a method resets itself (SAR, RDumb), the hook records an
    ``'own_reset'`` event.

    A top-level ``estimate`` makes any method estimate its mIoU without labels. The value is True,
    False (no estimate), or a dict of ``LabelFreeEstimate`` options, which override the method's
    own options.

    Before the first frame the method calibrates on some clear frames (see
    ``AdaptationMethod.calibrate``). The frames come from the folder ``calibrate``, else from the
    config's ``calibration_dataloader``, else from its ``forgetting_dataloader``. Labels are not
    used. If the adapter file has a calibration, that calibration is used, unless ``calibrate`` is
    given.

    Other hooks may not change the weights. The averaged weights of an ``EMAHook`` are loaded before
    the source is copied. If another hook changes weights before the first frame, the test stops.
    If another hook changes weights after the last frame, the change is undone.

    Args:
        adaptation: Config of the method; None for the config's top-level ``adaptation``.
        adapters: File of warmed-up meta networks. The hook puts the file into the config of the
            method.
        calibrate: Folder with pictures of clear weather; None for the config's data sets.
        calibration_frames: Maximum number of clear frames. If 0, the method does not calibrate on
            frames.
    """

    priority = Turn.BUILD

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
        """Refuses a checkpoint of another model, which mmengine would load in part."""
        if not getattr(runner, '_train_loop', None):
            path = getattr(runner, '_load_from', None) or 'given'
            check_fit(bare_model(runner), checkpoint.get('state_dict', checkpoint), path)
            bare_model(runner).class_names = names_in_checkpoint(checkpoint.get('meta'))

    def before_run(self, runner) -> None:
        """Registers the hooks that calibrate the method and that count its updates."""
        if not any(isinstance(hook, CalibrationHook) for hook in runner.hooks):
            runner.register_hook(CalibrationHook(self.calibrate, self.calibration_frames))
        if not any(isinstance(hook, LearningHook) for hook in runner.hooks):
            runner.register_hook(LearningHook())

    def before_test(self, runner) -> None:
        """Wraps the model in the method. A second test of the Runner uses the same method."""
        model = bare_model(runner)
        if hasattr(model, 'adaptation_disabled'):
            return
        rename_old_keys(runner.cfg)
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
        config = deepcopy(without_wrapping(config))
        if self.adapters is not None:
            with_adapters(config, self.adapters)
        if runner.cfg.get('estimate') is not None:
            config['estimate'] = merged_estimate(config.get('estimate'), runner.cfg.estimate)
        # mmengine runs test loops under no_grad alone, so the source's parameters stay unchanged.
        try:
            with torch.enable_grad(), _seeded(runner.cfg):
                runner.model = build_method(config, model, runner.cfg.get('views'))
        except TypeError as error:  # For example text instead of a number.
            raise ValueError(f'the `adaptation` {config} cannot be built: {error}') from error
        name = runner.cfg.get('method') if self.adaptation is None else None
        RunRecord(runner).method = str(name or method_name(config))
        RunRecord(runner).views = runner.model.views
        look_at_labels(runner)
        prepare_metrics(runner)
        prepare_pictures(runner)
        # A resumed stream loads its own learned tensors.
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
        """Copies the weights at the end of the stream."""
        self._left = copied_weights(bare_model(runner))

    def after_test(self, runner) -> None:
        """Undoes the changes that other hooks made to the weights after the last frame."""
        changed, self._left = put_back(bare_model(runner), self._left), {}
        if changed:
            runner.logger.warning(
                f'a hook changed {len(changed)} weights after the last frame, {changed[0]} '
                'first: they are restored, so that the clear day is measured with the weights at '
                'the end of the stream'
            )

    def after_test_iter(self, runner, batch_idx, data_batch=None, outputs=None) -> None:
        """Records the interventions of the guard and of the method."""
        index = outputs[0].metainfo.get('stream_index') if outputs else None
        for event in frame_events(runner.model, index):
            add_event(runner, event)


def _seeded(cfg) -> AbstractContextManager:
    """Fixes the seed of new layers if the config has no seed.

    mmengine would then draw another seed in each run, and a stopped stream could not resume.
    """
    if (cfg.get('randomness') or {}).get('seed') is not None:
        return nullcontext()
    return seeded(0)
