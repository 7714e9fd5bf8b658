"""Calibration on clear frames: a method's measurements there, as tensors by name."""

import logging
from collections.abc import Mapping, Sequence

import torch
from mmengine.logging import print_log
from torch import Tensor, nn

# Prefix of the names of the tensors that belong to the estimate of mIoU.
_ESTIMATE = 'estimate.'


def calibration_of(module: nn.Module) -> dict[str, Tensor]:
    """Returns the tensors that a calibration measures, by name. The tensors are not copies.

    If a module has such tensors as buffers, its attribute ``calibrated_buffers`` lists their names.
    """
    return {
        f'{prefix}.{name}' if prefix else name: getattr(part, name)
        for prefix, part in module.named_modules()
        for name in getattr(part, 'calibrated_buffers', ())
    }


@torch.no_grad()
def take_calibration(module: nn.Module, saved: Mapping[str, Tensor]) -> bool:
    """Copies the tensors of ``calibration_of`` into another instance of the same module.

    Args:
        module: Changed in place.
        saved: The tensors by name, on any device. Unknown names are ignored.

    Returns:
        True if the tensors were copied. False if the module measures nothing, or if a tensor is
        missing in ``saved`` because another method wrote it; then nothing changes.

    Raises:
        ValueError: A tensor has another shape, or is not finite. Nothing has changed then.
    """
    own = calibration_of(module)
    missing = [name for name in own if name not in saved]
    if missing:
        print_log(
            f'the calibration that is kept lacks {len(missing)} of the {len(own)} tensors that '
            f'this method measures, {missing[0]} first, so it is not used',
            'current',
            logging.WARNING,
        )
        return False
    for name, tensor in own.items():
        if saved[name].shape != tensor.shape or not saved[name].isfinite().all():
            raise ValueError(
                f'the calibration does not fit: expected {name} of shape {tuple(tensor.shape)} '
                f'and finite, got shape {tuple(saved[name].shape)}. Write the file again with '
                'tools/warm_up.py'
            )
    for name, tensor in own.items():
        tensor.copy_(saved[name])
    return bool(own)


class CalibratedOnFrames:
    """A mixin for adaptation methods (modules) that handles the calibration."""

    _has_calibration = False
    # A ``LabelFreeEstimate`` that is calibrated with the method, if there is one.
    estimate = None

    @property
    def needs_clear_frames(self) -> bool:
        """Whether ``calibrate_all`` measures anything."""
        return self.uses_clear_frames or self.estimate is not None

    def calibrate_all(self, frames: Sequence[tuple[Tensor, list[dict]]]) -> None:
        """Calibrates the method, and then its estimate of mIoU, if any.

        The method stays in evaluation mode afterwards: a forward in training mode would change the
        running statistics of the meta networks.

        Args:
            frames: See ``calibrate``.
        """
        self.eval()
        self.calibrate(frames)
        if self.estimate is not None:
            self.estimate.calibrate(self, frames)

    @property
    def uses_clear_frames(self) -> bool:
        """Whether ``calibrate`` measures anything."""
        return False

    @property
    def requires_clear_frames(self) -> bool:
        """Whether the method refuses to run without a calibration."""
        return False

    @property
    def calibrated_part(self) -> 'CalibratedOnFrames':
        """The module that is calibrated: the method, or the method inside a wrapper."""
        return self

    def calibrate(self, frames: Sequence[tuple[Tensor, list[dict]]]) -> None:
        """Measures what the source model does on clear frames, such as the drift of its norms.

        Call the function before the first frame of the stream.

        Args:
            frames: Some clear frames without labels: for each, the preprocessed inputs
                (1, 3, H, W) and the metainfo, as in ``propose``.
        """
        self._has_calibration = bool(frames) or self._has_calibration

    @property
    def has_calibration(self) -> bool:
        """Whether the method was calibrated, on frames or by ``take_calibration``."""
        return self.calibrated_part._has_calibration

    @property
    def is_calibrated(self) -> bool:
        """Whether everything that ``calibrate_all`` measures is already measured or loaded."""
        estimate = self.estimate is None or bool(self.estimate.calibration())
        return estimate and (self.has_calibration or not self.uses_clear_frames)

    def calibration(self) -> dict[str, Tensor]:
        """The tensors that ``calibrate_all`` measures, by name; before it, their default values."""
        estimate = {} if self.estimate is None else self.estimate.calibration()
        return {
            **calibration_of(self.calibrated_part),
            **{f'{_ESTIMATE}{name}': tensor for name, tensor in estimate.items()},
        }

    def take_calibration(self, saved: Mapping[str, Tensor]) -> bool:
        """Loads the ``calibration`` of another run, so that ``calibrate_all`` is not needed.

        Returns:
            True if the method's own tensors were loaded, see the function ``take_calibration``.

        Raises:
            ValueError: A tensor does not fit.
        """
        part = self.calibrated_part
        of_estimate = {
            name.removeprefix(_ESTIMATE): tensor
            for name, tensor in saved.items()
            if name.startswith(_ESTIMATE)
        }
        taken = take_calibration(part, saved)
        part._has_calibration = taken or part._has_calibration
        if self.estimate is not None and of_estimate:
            self.estimate.take_calibration(of_estimate)
        return taken
