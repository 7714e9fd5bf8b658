"""BatchNorms of a source model that normalise by selectable statistics.

The statistics of the *frozen* part matter more than any update. In severe weather the source's
running statistics are far off; on a clear day the frame's own statistics cost accuracy. A blend of
the two works in both cases, if its weight depends on the distance between them.
"""

from typing import Optional

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from ..memory.lean.autograd_ops.frame_norm import frame_batch_norm, frame_statistics
from ..memory.lean.autograd_ops.frame_region import FrameRegion

MODES = ('source', 'frame', 'blend', 'drift')


class AdaptiveBatchNorm2d(nn.Module):
    """Replaces a BatchNorm, with the same parameters, buffers and state-dict names.

    An input that is not a map, (N, C) or (N, C, L), such as EncNet's codes of the whole frame, is
    normalised by the source's statistics in every mode. Such an input is only one sample per frame:
    its own mean and variance would remove the differences between frames.

    Args:
        source: The BatchNorm to replace. The new layer shares its parameters and buffers and never
            writes to them.
        mode: Which mean and variance the layer normalises by:
            'source': the source's running mean and variance.
            'frame': the mean and variance of the input.
            'blend': (1 - weight) * source + weight * frame.
            'drift': as 'blend' with a weight per channel and frame, 1 - exp(-weight * d), where d
            is the distance of the channel's statistics from the source's (see ``drift``).
        weight: See ``mode``; 0 to 1 for 'blend', at least 0 for 'drift'.
        through_statistics: Whether gradients flow through the frame's mean and variance (as in
            training). If False, the statistics are constants in the backward pass. True is for mode
            'frame' only.

    Raises:
        ValueError: The mode is unknown or the weight is out of range.
    """

    def __init__(
        self,
        source: _BatchNorm,
        mode: str = 'source',
        weight: float = 1.0,
        through_statistics: bool = False,
    ) -> None:
        super().__init__()
        if mode not in MODES:
            raise ValueError(f'expected a mode of normalisation from {MODES}, got {mode!r}')
        if weight < 0 or (mode == 'blend' and weight > 1):
            raise ValueError(
                f"expected a weight from 0 to 1 for 'blend' and from 0 for 'drift', got {weight}"
            )
        self.weight, self.bias = source.weight, source.bias
        self.register_buffer('running_mean', source.running_mean)
        self.register_buffer('running_var', source.running_var)
        self.register_buffer('num_batches_tracked', source.num_batches_tracked)
        self.num_features, self.eps = source.num_features, source.eps
        self.mode, self.blend_weight = mode, weight
        self.through_statistics = through_statistics
        # The part of the input to measure, see ``measuring``; None for the whole input.
        self.region: Optional[FrameRegion] = None
        # The drift of the last input, summed over channels. The memory engine normalises a map in
        # pieces of channels; the keys are the first channels of the pieces. None if no meter is
        # listening. Calibrated norms divide by ``drift_unit``.
        self.last_drift: Optional[dict[int, Tensor]] = None

    def extra_repr(self) -> str:
        """The layer's options for ``print(model)``."""
        return f'{self.num_features}, mode={self.mode}, weight={self.blend_weight}'

    @torch.no_grad()
    def drift(self, mean: Tensor, var: Tensor, channels: slice = slice(None)) -> Tensor:
        """The distance of a frame's statistics from the source's: (C,), each at least 0.

        The distance of each channel is a Kullback-Leibler divergence, between normal distributions
        with the frame's statistics and with the source's:

            ((m_f - m_s)^2 / v_s + v_f / v_s - 1 - ln(v_f / v_s)) / 2

        Args:
            mean: (C,), the frame's mean.
            var: (C,), the frame's biased variance.
            channels: The slice of the layer's channels that ``mean`` and ``var`` cover.
        """
        return self._divergence(mean, var, self.running_mean[channels], self.running_var[channels])

    def _divergence(self, mean: Tensor, var: Tensor, other_mean: Tensor, other_var: Tensor):
        """The Kullback-Leibler divergence of another normal distribution from one: (C,)."""
        other_var = other_var + self.eps
        ratio = (var + self.eps) / other_var
        shift = (mean - other_mean).square() / other_var
        return 0.5 * (shift + ratio - 1 - ratio.log())

    @torch.no_grad()
    def statistics(self, x: Tensor, channels: slice = slice(None)) -> tuple[Tensor, Tensor]:
        """Returns the mean and (biased) variance to normalise by: two (C,) tensors.

        Args:
            x: (N, C, H, W), or (N, C) or (N, C, L).
            channels: The slice of the layer's channels in x.
        """
        source_mean, source_var = self.running_mean[channels], self.running_var[channels]
        measured = None if self.mode == 'source' else frame_statistics(x.detach(), self.region)
        if measured is None:
            return source_mean, source_var
        mean, var = measured
        if self.mode == 'frame':
            return mean, var
        weight = self.blend_weight
        if self.mode == 'drift':
            drift = self.drift(mean, var, channels)
            if self.last_drift is not None:
                self.last_drift[channels.start or 0] = drift.sum()
            weight = 1 - torch.exp(-weight * drift)
        return torch.lerp(source_mean, mean, weight), torch.lerp(source_var, var, weight)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W), (N, C) or (N, C, L) to the same shape."""
        if self.through_statistics and self._has_variance(x):
            if self.region is not None:
                return frame_batch_norm(x, self.weight, self.bias, self.eps, self.region)
            return F.batch_norm(x, None, None, self.weight, self.bias, True, 0.0, self.eps)
        mean, var = self.statistics(x)
        return F.batch_norm(x, mean, var, self.weight, self.bias, False, 0.0, self.eps)

    def _has_variance(self, x: Tensor) -> bool:
        """Whether an input's own statistics are usable.

        They are usable if the input is a map with more than one value per channel, not counting
        padding. (The output of ASPP's image pool has one value per channel if the batch has one
        frame.)
        """
        if x.dim() != 4:
            return False
        first = x[:, 0:1]
        return (first if self.region is None else self.region.crop(first)).numel() > 1
