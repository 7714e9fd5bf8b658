"""Brightens dark frames to the brightness of the source's training frames."""

from math import log
from typing import Optional

import torch
from torch import Tensor, nn


class Exposure:
    """A gamma correction of frames that are darker than the source's training frames.

    A pixel p becomes 255 (p / 255)^g with g = ln(t / 255) / ln(l / 255). So a pixel of the frame's
    mean l becomes t, ``brightness`` times the mean that the data preprocessor subtracts. A ResNet's
    BatchNorms bring a dark frame's statistics back to the source's. A SegFormer has no BatchNorm
    before its head, and its LayerNorms act on single pixels, so they cannot correct a dark frame.

    Args:
        preprocessor: The segmentor's data preprocessor, with a mean and a standard deviation of
            pixels from 0 to 255.
        brightness: Target mean of dark frames as a multiple of the preprocessor's mean, above 0,
            at most 1. Clear frames can be darker than the preprocessor's mean, too.

    Raises:
        ValueError: ``brightness`` is out of range, or the preprocessor subtracts no mean.
    """

    def __init__(self, preprocessor: nn.Module, brightness: float = 0.8) -> None:
        if not 0 < brightness <= 1:
            raise ValueError(f'expected a brightness above 0 and up to 1, got {brightness}')
        mean = getattr(preprocessor, 'mean', None)
        self.target = 0.0 if mean is None else brightness * float(mean.float().mean())
        if not 0 < self.target < 255:
            raise ValueError(
                'a brightness goes with a data_preprocessor whose mean, that of the frames that '
                f'the source has been trained on, is from 0 to 255, got {mean}: leave it out'
            )
        self.preprocessor = preprocessor

    @torch.no_grad()
    def brightness(self, frame: Tensor) -> float:
        """The mean pixel value, 0 to 255, of a preprocessed frame (3, H, W) without padding."""
        mean, std = self.preprocessor.mean, self.preprocessor.std
        # Computed from the channels' means to avoid a tensor of the frame's size.
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
        mean, std = self.preprocessor.mean, self.preprocessor.std
        target = self.target if target is None else target
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
