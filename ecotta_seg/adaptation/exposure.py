"""Brightens dark frames to what the source has been trained on."""

from math import log
from typing import Optional

import torch
from torch import Tensor, nn


class Exposure:
    """A gamma correction of frames that are darker than a source expects; others stay as they are.

    255 (p / 255)^g with g = ln(t / 255) / ln(l / 255), by which a pixel of l, the frame's mean,
    becomes one of t, ``brightness`` times the mean that the data preprocessor takes off. A ResNet's
    BatchNorms bring a dark frame's statistics back to the source's; a SegFormer has none until its
    head, and its LayerNorms, which act on each pixel, cannot know how dark the frame is.

    Args:
        preprocessor: The segmentor's data preprocessor, with a mean and a standard deviation of
            pixels from 0 to 255.
        brightness: Above 0, at most 1. Clear frames of CamVid's val sequence are at 0.68 to 0.87
            times the mean of ImageNet, at night of severity 4 at 0.31 to 0.38.

    Raises:
        ValueError: ``brightness`` is out of range, or the preprocessor takes off no mean.
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
        """The mean of a frame (3, H, W), preprocessed, without padding: in units of pixels."""
        mean, std = self.preprocessor.mean, self.preprocessor.std
        # Of the channels' means, so that nothing of the frame's size has to be made.
        return float((frame.mean((1, 2), keepdim=True) * std + mean).mean())

    @torch.no_grad()
    def brighten_(
        self, inputs: Tensor, rows: slice, columns: slice, target: Optional[float] = None
    ) -> Tensor:
        """Corrects each dark frame in place.

        Args:
            inputs: (N, 3, H, W), preprocessed.
            rows, columns: What of them is no padding.
            target: The mean that darker frames are brought to, in units of pixels; None for
                ``target``.

        Returns:
            ``inputs``.
        """
        mean, std = self.preprocessor.mean, self.preprocessor.std
        target = self.target if target is None else target
        for frame in inputs:
            inner = frame[:, rows, columns]
            brightness = self.brightness(inner)
            # A frame without any light, or without numbers, has nothing to show.
            if not 1 <= brightness < target:
                continue
            gamma = log(target / 255) / log(brightness / 255)
            inner.mul_(std).add_(mean).div_(255).clamp_(0, 1).pow_(gamma)
            inner.mul_(255).sub_(mean).div_(std)
        return inputs
