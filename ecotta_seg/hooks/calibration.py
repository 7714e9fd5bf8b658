"""Calibrates a Runner's method on clear frames, unless a calibration already exists."""

from collections.abc import Mapping, Sequence
from copy import deepcopy
from typing import Any, Optional

from mmengine.hooks import Hook
from torch import nn

from ..config.config import inner_dataset, unlabelled_steps
from ..datasets.clear_frames import ClearFrames, frames_of_dataset, frames_of_folder
from ..methods.frame_life import Turn
from .run_record import RunRecord


def clear_frames(
    runner: Any,
    model: nn.Module,
    number: int,
    folder: Optional[str] = None,
    steps: Sequence[dict] = (),
    loaders: Sequence[Optional[dict]] = (),
) -> Optional[ClearFrames]:
    """Returns the clear frames for the calibration of a method.

    Args:
        runner: The Runner, which builds the data sets.
        model: The segmentor whose preprocessor prepares the frames.
        number: Maximum number of frames.
        folder: Folder with pictures; takes precedence over ``loaders``.
        steps: The pipeline for the pictures of the folder.
        loaders: Configs of data loaders. The first one that is neither None nor empty is used.

    Returns:
        The frames; None if there is neither a folder nor a data loader, or ``number`` is 0.

    Raises:
        ValueError: The folder contains no picture.
    """
    if folder is not None:
        return frames_of_folder(folder, steps, number, model)
    loader = next((loader for loader in loaders if loader), None)
    if loader is None or not number:
        return None
    loader = dict(deepcopy(dict(loader)), num_workers=0, persistent_workers=False)
    return frames_of_dataset(runner.build_dataloader(loader).dataset, number, model)


def frame_steps(cfg: Mapping) -> list[dict]:
    """Returns a config's test pipeline without the steps that load labels or make weather."""
    return unlabelled_steps(inner_dataset(cfg).get('pipeline') or cfg.get('test_pipeline') or ())


def clear_training_loader(cfg: Mapping) -> Optional[dict]:
    """Returns a loader config that prepares the training frames as in a test.

    Returns:
        A data loader's config: the training data set with the test pipeline, without labels and
        synthetic weather. None if the config has no training data set or no test pipeline.
    """
    dataset = deepcopy((cfg.get('train_dataloader') or {}).get('dataset'))
    steps = frame_steps(cfg)
    if not isinstance(dataset, Mapping) or not steps:
        return None
    return dict(
        batch_size=1,
        num_workers=0,
        sampler=dict(type='DefaultSampler', shuffle=False),
        dataset=_with_pipeline(dataset, steps),
    )


def _with_pipeline(dataset: Any, steps: Sequence[dict]) -> Any:
    """Returns a data set's config in which the innermost data sets have the pipeline ``steps``."""
    if isinstance(dataset, (list, tuple)):
        return [_with_pipeline(one, steps) for one in dataset]
    inner = [key for key in ('dataset', 'datasets') if key in dataset]
    if not inner:
        return dict(dataset, pipeline=deepcopy(list(steps)))
    # A wrapper (MultiImageMixDataset) may have random steps of its own: they are removed.
    changes = {key: _with_pipeline(dataset[key], steps) for key in inner}
    return dict(dataset, **changes, **(dict(pipeline=[]) if 'pipeline' in dataset else {}))


class CalibrationHook(Hook):
    """Calibrates the method of ``EcoTTAHook`` before the first prediction.

    The hook uses the calibration in the adapter file if the file has one and ``folder`` is None. If
    the stream resumes from a saved state, the hook uses the calibration in that state.

    Args:
        folder: Folder with pictures of clear weather; None for the config's data sets.
        number: Maximum number of clear frames. If 0, the method does not calibrate on frames.
    """

    priority = Turn.CALIBRATE

    def __init__(self, folder: Optional[str], number: int) -> None:
        self.folder, self.number = folder, number
        self._seen: Optional[nn.Module] = None

    def before_test(self, runner: Any) -> None:
        """Calibrates the method on clear frames, if the method is new and needs them.

        Raises:
            ValueError: There are no clear frames, and the method does not run without them.
        """
        method, cfg = runner.model, runner.cfg
        if method is self._seen or not method.needs_clear_frames:
            return
        self._seen = method
        if RunRecord(runner).resumed_at:
            runner.logger.info('the calibration comes from the saved state')
            return
        if self.folder is None and method.is_calibrated:
            runner.logger.info('the calibration comes from the adapters')
            return
        loaders = [cfg.get('calibration_dataloader'), cfg.get('forgetting_dataloader')]
        steps = () if self.folder is None else frame_steps(cfg)
        frames = clear_frames(runner, method.segmentor, self.number, self.folder, steps, loaders)
        if frames is None and not method.requires_clear_frames:
            runner.logger.warning(
                'there are no clear frames to calibrate on, so the method uses estimates: '
                '--calibrate DIR names a folder with a dozen pictures of clear weather'
            )
            return
        method.calibrate_all(frames or ())
        runner.logger.info(f'calibrated on {len(frames)} clear frames')
