"""Aligns feature maps without a norm of their own with the statistics of clear frames."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Optional

import torch
from torch import Tensor, nn

from ..memory.lean.autograd_ops.frame_norm import frame_statistics
from .calibrated_batch_norm import CalibratedBatchNorm2d


class CalibratedFeatures(CalibratedBatchNorm2d):
    """Brings the statistics of a feature map back to those of clear frames (ours).

    A transformer has no BatchNorm in its backbone, so nothing there corrects a shift of the
    features. This layer corrects the shift at the end of a part:

        y = (x - m) sqrt(V / v) + M

    M and V are the channel's mean and variance over the clear frames of a calibration. m and v are
    the blended statistics of ``CalibratedBatchNorm2d`` with M and V as the source's statistics. If
    the frame's drift is usual, m = M and v = V, and y = x exactly. Without a calibration the layer
    is the identity.

    Args:
        channels: C.
        **options: ``weight``, ``tolerance`` and ``momentum``, see base class.

    Raises:
        ValueError: An option is out of range.
    """

    calibrated_buffers = ('usual_drift', 'running_mean', 'running_var', 'measured')

    def __init__(self, channels: int, **options) -> None:
        super().__init__(nn.BatchNorm2d(channels, affine=False), **options)
        # The buffers are not persistent, so that the state dict has the same names as the source
        # model's.
        mean, var = self.running_mean, self.running_var
        del self.running_mean, self.running_var, self.num_batches_tracked
        self.register_buffer('running_mean', mean, persistent=False)
        self.register_buffer('running_var', var, persistent=False)
        self.register_buffer('measured', var.new_zeros(()), persistent=False)
        self._seen: Optional[list[tuple[Tensor, Tensor]]] = None

    def blended(
        self, mean: Tensor, var: Tensor, drift: Tensor, channels: slice = slice(None)
    ) -> tuple[Tensor, Tensor]:
        """See base class. Without a calibration, the result is the running mean and variance."""
        mean, var = super().blended(mean, var, drift, channels)
        source_mean, source_var = self.running_mean[channels], self.running_var[channels]
        return (
            torch.lerp(source_mean, mean, self.measured),
            torch.lerp(source_var, var, self.measured),
        )

    @torch.no_grad()
    def scale_and_shift(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Returns scale and shift of y = scale * x + shift: two (C, 1, 1) tensors without a graph.

        Args:
            x: (N, C, H, W).
        """
        mean, var = self.statistics(x)
        scale = ((self.running_var + self.eps) / (var + self.eps)).sqrt()
        shift = self.running_mean - mean * scale
        return scale.to(x.dtype).view(-1, 1, 1), shift.to(x.dtype).view(-1, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to the same shape."""
        if self._seen is not None:
            measured = frame_statistics(x.detach(), self.region)
            if measured is not None:
                self._seen.append(measured)
            return x
        scale, shift = self.scale_and_shift(x)
        return x * scale + shift

    @torch.no_grad()
    def take_source(self, means: Tensor, variances: Tensor) -> None:
        """Computes M and V from the statistics of clear frames.

        Args:
            means, variances: (frames, C) each, the mean and variance of every clear frame.
        """
        self.running_mean.copy_(means.mean(0))
        self.running_var.copy_(variances.mean(0) + means.var(0, unbiased=False))
        self.measured.fill_(1.0)


@contextmanager
def measuring_source(layers: Iterable[CalibratedFeatures]) -> Iterator[None]:
    """Measures M and V: run one forward per clear frame inside the context.

    Inside, the layers return their input unchanged. If a layer receives no map, its M and V do not
    change.
    """
    layers = list(layers)
    for layer in layers:
        layer._seen = []
    done = False
    try:
        yield
        done = True
    finally:
        for layer in layers:
            seen, layer._seen = layer._seen, None
            if done and seen:
                layer.take_source(*(torch.stack(parts) for parts in zip(*seen)))
