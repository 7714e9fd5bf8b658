"""BatchNorms of a source model that normalise by chosen statistics and stay what they were.

By what statistics the *frozen* part is normalised decides more than any update: under severe
weather the source's running statistics are far off, the frame's own cost accuracy on a clear day.
Blending the two by how far they are apart has both sides.
"""

from typing import Optional

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from ..autograd_ops.frame_norm import frame_batch_norm, frame_statistics
from ..autograd_ops.frame_region import FrameRegion, of_frame

MODES = ('source', 'frame', 'blend', 'drift')


class AdaptiveBatchNorm2d(nn.Module):
    """Stands in for a BatchNorm, with the same parameters, buffers and state-dict names.

    Whatever the mode, an input without positions, (N, C) or (N, C, L) such as EncNet's codes of
    the whole frame, is normalised by the source's statistics. Its values are one sample a frame,
    not many: their own mean and variance would take out what tells this frame from another.

    Args:
        source: The BatchNorm to stand in for; parameters and buffers are shared, never written.
        mode: By which mean and variance to normalise:
            'source': the running ones.
            'frame': those of the input.
            'blend': (1 - weight) * source + weight * frame.
            'drift': as 'blend' with a weight per channel and frame, 1 - exp(-weight * d), where d
            measures how far the channel's statistics lie from the source's (see ``drift``).
        weight: See ``mode``; 0 to 1 for 'blend', at least 0 for 'drift'.
        through_statistics: Whether gradients flow through the frame's mean and variance (as in
            training). False makes the layer an affine map in backward: nothing but its scale has
            to be kept. Only for mode 'frame'.

    Raises:
        ValueError: An unknown mode or a weight out of range.
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
        # The part of the input that is measured, see ``measuring``; None for all of the input.
        self.region: Optional[FrameRegion] = None
        # Sums of the drift of the last input's channels, by the first channel of each piece that
        # they were normalised in; None where nobody asks for them.
        self.last_drift: Optional[dict[int, Tensor]] = None

    def extra_repr(self) -> str:
        """What ``print(model)`` shows of the layer."""
        return f'{self.num_features}, mode={self.mode}, weight={self.blend_weight}'

    @torch.no_grad()
    def drift(self, mean: Tensor, var: Tensor, channels: slice = slice(None)) -> Tensor:
        """How far a frame's statistics lie from the source's: (C,), each at least 0.

        The Kullback-Leibler divergence of the source's normal distribution from the frame's, for
        each channel: ((m_f - m_s)^2 / v_s + v_f / v_s - 1 - ln(v_f / v_s)) / 2.

        Args:
            mean: (C,), the frame's.
            var: (C,), the frame's, biased.
            channels: Which of the layer's channels these are.
        """
        source = self.running_mean[channels], self.running_var[channels]
        return self._divergence(mean, var, *source)

    def _divergence(self, mean: Tensor, var: Tensor, other_mean: Tensor, other_var: Tensor):
        """The Kullback-Leibler divergence of another normal distribution from one: (C,)."""
        other_var = other_var + self.eps
        ratio = (var + self.eps) / other_var
        shift = (mean - other_mean).square() / other_var
        return 0.5 * (shift + ratio - 1 - ratio.log())

    @torch.no_grad()
    def statistics(self, x: Tensor, channels: slice = slice(None)) -> tuple[Tensor, Tensor]:
        """The mean and (biased) variance to normalise by: two (C,) tensors.

        Args:
            x: (N, C, H, W), or (N, C) or (N, C, L).
            channels: Which of the layer's channels x has.
        """
        source_mean, source_var = self.running_mean[channels], self.running_var[channels]
        if self.mode == 'source' or not self._has_variance(x):
            return source_mean, source_var
        mean, var = frame_statistics(x.detach(), self.region)
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
        """Whether an input's own statistics say something: the input is a map, and has more than
        one value of the frame a channel (the image pool of ASPP at batch 1 has one)."""
        return x.dim() == 4 and of_frame(x[:, 0:1], self.region).numel() > 1
