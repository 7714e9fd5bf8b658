"""Builds an adaptive segmentor from a config and a checkpoint, without a Runner."""

from collections.abc import Mapping, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any, Optional, Union

import torch
from mmengine.config import Config
from mmengine.dataset import Compose
from mmengine.model import revert_sync_batchnorm
from mmengine.registry import DefaultScope
from mmseg.registry import MODELS
from mmseg.utils import register_all_modules

from ..config.config import inner_dataset, read_config, unlabelled_steps
from ..config.method import merged_estimate, with_adapters, with_compute_budget, with_memory_budget
from ..config.old_wrapping import without_wrapping
from ..datasets.clear_frames import frames_of_folder
from ..files.checkpoint import load_source
from ..guard import UpdateGuard
from ..methods import build_method
from ..names.type_names import type_name
from ..resume.run_identity import model_identity
from ..startup.stack import force_safe_loading
from .adaptive_segmentor import AdaptiveSegmentor
from .dataset_meta import dataset_meta
from .frame_size import FrameSize, check_size, sized_steps


def init_adaptive_segmentor(
    config: Union[str, Path, Config],
    checkpoint: Union[str, Path, None] = None,
    device: str = 'cpu',
    memory_budget: Any = None,
    *,
    adapters: Optional[str] = None,
    method: Optional[dict] = None,
    guard: Union[bool, dict] = True,
    check_frames: bool = True,
    adapt_every: int = 1,
    time_budget: Optional[float] = None,
    concurrent: bool = False,
    keep_source: bool = False,
    trust_checkpoint: bool = False,
    calibrate: Optional[str] = None,
    calibration_frames: int = 12,
    estimate: Union[bool, dict, None] = None,
    size: FrameSize = None,
    compute_budget: Union[str, float, None] = None,
) -> AdaptiveSegmentor:
    """Builds a segmentor that adapts to each frame given to its ``step``.

    A frame goes through the config's test pipeline, without the steps that load files and labels.
    Its masks have the size of the frame for any ``size``.

    Args:
        config: A config of this project (file or loaded), such as ``configs/acdc_ecotta.py``.
        checkpoint: The source model's weights; None keeps the random initial weights.
        device: ``'cpu'``, ``'cuda'``, ``'cuda:1'`` ...
        memory_budget: Memory budget of the method, for example ``'600MB'`` or ``'1.0x'`` (times the
            peak of stock inference). The method must learn by gradients.
        adapters: File of warmed-up or saved meta networks, for a method that has some.
        method: The adaptation method's config; None for the config's ``adaptation``.
        guard: Whether an ``UpdateGuard`` checks the updates; a dict gives its limits.
        check_frames: Whether to skip learning on frames that are black, frozen, noise and so on.
        adapt_every: Learn from every n-th frame only; each frame is predicted.
        time_budget: Maximum mean time per frame in seconds; updates are skipped to keep within
            this budget.
        concurrent: Whether to keep a second set of adapters, so that ``predict`` in another thread
            does not wait for a running step.
        keep_source: Whether to keep the source model beside the adapted one, for
            ``predict_source``.
        trust_checkpoint: Whether to allow a checkpoint that runs code when it is loaded.
        calibrate: Folder with pictures of clear weather, without labels, on which the method
            calibrates. If None, the method uses the calibration of the adapter file. If the file
            has none either, the method uses default values.
        calibration_frames: Maximum number of pictures for the calibration.
        estimate: Whether to estimate mIoU without labels; a dict gives options of
            ``LabelFreeEstimate``. None uses the settings of the method's config or the config's
            ``estimate``.
        size: Size of a frame at the model's input. None: the config's ``Resize`` shrinks larger
            frames, smaller ones keep their size. ``'frame'``: no frame is resized. ``'config'``:
            all frames are resized as in the config, so small ones are enlarged. (height, width) in
            pixels: each frame is shrunk or enlarged to fit into this size and keeps its aspect
            ratio.
        compute_budget: Limit of the mean operations of a frame, for example ``'1.5x'`` (times stock
            inference), see ``ComputeBudget``.

    Returns:
        The segmentor.

    Raises:
        ValueError: The config, the checkpoint or the adapters are missing, damaged or do not fit,
            or an option is out of range.
        TypeError: ``method`` or ``guard`` is of another type.
    """
    force_safe_loading()
    register_all_modules(init_default_scope=False)
    cfg = read_config(config) if isinstance(config, (str, Path)) else config
    if not isinstance(cfg, Config) or 'model' not in cfg:
        raise ValueError('expected a config file, or a loaded config, with a `model`')
    if not isinstance(method, (dict, Config, type(None))):
        raise TypeError(
            f'expected method to be a config, e.g. dict(type="tent", ...), got {method!r}'
        )
    options = method if method is not None else cfg.get('adaptation') or {}
    options = deepcopy(without_wrapping(options))
    if not options:
        raise ValueError(
            'the config has no `adaptation`: give the method, e.g. method=dict(type="tent", ...)'
        )
    if memory_budget is not None:
        with_memory_budget(options, memory_budget)
    if compute_budget is not None:
        with_compute_budget(options, compute_budget)
    if adapters is not None:
        with_adapters(options, adapters)
    if estimate is None:
        estimate = cfg.get('estimate')
    if estimate is not None:
        options['estimate'] = merged_estimate(options.get('estimate'), estimate)
    if not isinstance(guard, (bool, dict, type(None))):
        raise TypeError(f'expected guard to be True, False or a dict of limits, got {guard!r}')
    check_size(size)
    try:
        device = torch.device(device)
        if device.type == 'meta':
            raise RuntimeError('it holds no data')
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, TypeError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f'the device {device} cannot be used here ({reason})') from None
    with DefaultScope.overwrite_default_scope('mmseg'):
        model, meta = MODELS.build(deepcopy(cfg.model)), {}
        if checkpoint is not None:
            meta = load_source(model, checkpoint, trust_checkpoint)
        steps = frame_pipeline(cfg, size)
        settings = {'adaptation': _without_paths(options), 'guard': guard, 'pipeline': steps}
        identity = model_identity(model, settings)
        model = revert_sync_batchnorm(model).to(device).eval()
        source = deepcopy(model).requires_grad_(False) if keep_source else None
        built = build_method(options, model).to(device).eval()
        if calibrate is not None:
            from_files = [dict(type='LoadImageFromFile'), *steps[1:]]
            frames = frames_of_folder(calibrate, from_files, calibration_frames, model)
            built.calibrate_all(frames)
        pipeline = Compose(steps)
        meta = dataset_meta(cfg, meta, getattr(model, 'num_classes', 0) or model.out_channels)
    if guard:
        built.guard = UpdateGuard(**(guard if isinstance(guard, dict) else {}))
    return AdaptiveSegmentor(
        built,
        pipeline,
        source=source,
        check_frames=check_frames,
        adapt_every=adapt_every,
        time_budget=time_budget,
        concurrent=concurrent,
        meta=meta,
        identity=identity,
    )


def _without_paths(options: dict) -> dict:
    """The options of a method without the path of the adapter file.

    The path does not identify a run: a saved state has the content of that file.
    """
    return {
        key: _without_paths(value) if isinstance(value, Mapping) else value
        for key, value in options.items()
        if key != 'adapters'
    }


def frame_pipeline(cfg: Config, size: FrameSize = 'config') -> Sequence[dict]:
    """Returns the config's test pipeline for frames that are in memory; see ``sized_steps``."""
    steps = (
        inner_dataset(cfg).get('pipeline')
        or cfg.get('test_pipeline')
        or [dict(type='PackSegInputs')]
    )
    kept = [step for step in unlabelled_steps(steps) if not type_name(step).startswith('LoadImage')]
    return sized_steps([dict(type='LoadImageFromNDArray'), *kept], size)
