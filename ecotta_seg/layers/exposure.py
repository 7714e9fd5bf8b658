"""Brightens dark frames to the brightness of the source's training frames."""

from math import log
from typing import Optional

import torch
from torch import Tensor, nn


def is_target(brightness: float) -> bool:
    """Whether a mean pixel value is possible for 8-bit frames that are not black or white."""
    return 1 < brightness < 255


class Exposure:
    """A gamma correction of frames that are darker than the source's training frames.

    A pixel p becomes 255 (p / 255)^g with g = ln(t / 255) / ln(l / 255). l is the mean of the
    frame, so a pixel with the value l becomes t. t is ``brightness`` times the mean that the data
    preprocessor subtracts. A ResNet's BatchNorms bring a dark frame's statistics
    back to the source's. A SegFormer has no BatchNorm before its head, and its LayerNorms act on
    single pixels, so they cannot correct a dark frame.

    Args:
        preprocessor: The segmentor's data preprocessor. If it has no mean, frames are not
            corrected.
        brightness: Target mean of dark frames as a multiple of the preprocessor's mean, above 0, at
            most 1. The default is below 1 because clear frames can be darker than the
            preprocessor's mean, too.

    Attributes:
        target: The mean pixel value of dark frames after the correction, 0 to 255. If the
            preprocessor's mean does not fit 8-bit frames, the target is 0 and frames are not
            corrected.

    Raises:
        ValueError: ``brightness`` is out of range.
    """

    def __init__(self, preprocessor: nn.Module, brightness: float = 0.8) -> None:
        if not 0 < brightness <= 1:
            raise ValueError(f'expected a brightness above 0 and up to 1, got {brightness}')
        mean = getattr(preprocessor, 'mean', None)
        target = 0.0 if mean is None else brightness * float(mean.float().mean())
        self.target = target if is_target(target) else 0.0
        self.preprocessor = preprocessor

    @property
    def scale(self) -> tuple[Tensor, Tensor]:
        """The preprocessor's mean and standard deviation, each (3, 1, 1) or a scalar."""
        mean = getattr(self.preprocessor, 'mean', None)
        if mean is None:
            return torch.zeros(()), torch.ones(())
        return mean, self.preprocessor.std

    @torch.no_grad()
    def brightness(self, frame: Tensor) -> float:
        """The mean pixel value, 0 to 255, of a preprocessed frame (3, H, W) without padding."""
        mean, std = self.scale
        # The mean is computed from the channels' means, to avoid a tensor of the frame's size.
        return float((frame.mean((1, 2), keepdim=True) * std + mean).mean())

    @torch.no_grad()
    def brighten_(
        self, inputs: Tensor, rows: slice, columns: slice, target: Optional[float] = None
    ) -> Tensor:
        """Corrects each dark frame in place.

        Args:
            inputs: (N, 3, H, W), preprocessed.
            rows, columns: The part of the inputs that is not padding.
            target: The mean pixel value for darker frames, 0 to 255; None for ``self.target``.

        Returns:
            ``inputs``.
        """
        mean, std = self.scale
        target = self.target if target is None else target
        if not is_target(target):
            return inputs
        for frame in inputs:
            inner = frame[:, rows, columns]
            brightness = self.brightness(inner)
            # A frame without any light, or with nan, cannot be corrected.
            if not 1 <= brightness < target:
                continue
            gamma = log(target / 255) / log(brightness / 255)
            inner.mul_(std).add_(mean).div_(255).clamp_(0, 1).pow_(gamma)
            inner.mul_(255).sub_(mean).div_(std)
        return inputs
