"""Norms by the frame's statistics as ordinary operations: means, products, sums.

If the network is in half precision, modules with names that end in ``_in_float32`` stay in float32.
"""

from typing import Optional

import torch
from torch import Tensor, nn

from ..layers.adaptive_batch_norm import AdaptiveBatchNorm2d
from ..layers.calibrated_batch_norm import JUMP, CalibratedBatchNorm2d
from ..layers.calibrated_features import CalibratedFeatures
from ..meta_networks.norms import FrameBatchNorm2d
from .shared_frame import SharedFrame


class FrameStatistics(nn.Module):
    """Computes the scale and the shift that normalise a map.

    The modes are those of ``AdaptiveBatchNorm2d``, and 'calibrated' for ``CalibratedBatchNorm2d``.
    The moving average of a calibrated norm is a constant here: each frame is treated as the first
    frame after the export.

    Args:
        source: An ``AdaptiveBatchNorm2d`` or a ``FrameBatchNorm2d``; its tensors are copied.
        shared: The ``SharedFrame`` of the network.
        listened: Whether the norm records its drift.
        gated: Whether the weight of a norm of mode 'drift', if above 1, depends on the strength,
            see ``EcoTTAPlus``.
    """

    def __init__(
        self, source: nn.Module, shared: SharedFrame, listened: bool = False, gated: bool = False
    ) -> None:
        super().__init__()
        self.shared, self.listened = shared, listened
        self.mode = getattr(source, 'mode', 'frame')
        self.eps = source.eps
        self.blend_weight = float(getattr(source, 'blend_weight', 1.0))
        # The strength does not change a weight up to 1 or the weight of a calibrated norm.
        self.gated = gated and self.mode == 'drift' and self.blend_weight > 1
        ones = torch.ones_like(source.running_var)
        scale = ones if source.weight is None else source.weight
        shift = 0 * ones if source.bias is None else source.bias
        if isinstance(source, CalibratedFeatures):
            # Features keep the source's mean and variance.
            scale, shift = (source.running_var + self.eps).sqrt(), source.running_mean
        self._copy('scale', scale)
        self._copy('shift', shift)
        self.tolerance = self.momentum = 0.0
        self.drift_unit = 1.0
        if self.mode != 'frame':
            self._copy('source_mean', source.running_mean)
            self._copy('source_var', source.running_var)
        if isinstance(source, CalibratedBatchNorm2d):
            self.mode, self.gated = 'calibrated', False
            self.tolerance, self.momentum = source.tolerance, source.momentum
            self._copy('usual_drift', source.usual_drift)
            self.drift_unit = float(source.drift_unit)
            self.follows = bool(source.followed)
            if self.follows:
                self._copy('stream_mean', source.stream_mean)
                self._copy('stream_var', source.stream_var)

    def _copy(self, name: str, tensor: Tensor) -> None:
        self.register_buffer(name, tensor.detach().clone().view(1, -1, 1, 1))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Returns scale and shift for a map (1, C, H, W): two (1, C, 1, 1) float32 tensors."""
        # Sums over a map need more precision than half precision has.
        x = x.float() if x.dtype == torch.float16 else x
        mean = x.mean((2, 3), keepdim=True)
        var = (x - mean).square().mean((2, 3), keepdim=True)
        if self.mode == 'calibrated':
            mean, var = self._calibrated(mean, var)
        elif self.mode != 'frame':
            mean, var = self._blended(mean, var)
        scale = self.scale * torch.rsqrt(var + self.eps)
        return scale, self.shift - mean * scale

    def _divergence(self, mean: Tensor, var: Tensor, other_mean: Tensor, other_var: Tensor):
        """See ``AdaptiveBatchNorm2d.drift``."""
        other_var = other_var + self.eps
        ratio = (var + self.eps) / other_var
        shift = (mean - other_mean).square() / other_var
        return 0.5 * (shift + ratio - 1 - ratio.log())

    def _drift(self, mean: Tensor, var: Tensor) -> Tensor:
        drift = self._divergence(mean, var, self.source_mean, self.source_var)
        if self.listened:
            self.shared.record(drift / self.drift_unit)
        return drift

    def _towards(self, mean: Tensor, var: Tensor, weight) -> tuple[Tensor, Tensor]:
        return (
            self.source_mean + weight * (mean - self.source_mean),
            self.source_var + weight * (var - self.source_var),
        )

    def _blended(self, mean: Tensor, var: Tensor) -> tuple[Tensor, Tensor]:
        if self.mode == 'blend':
            return self._towards(mean, var, self.blend_weight)
        weight = self.blend_weight
        if self.gated:
            weight = 1 + (weight - 1) * self.shared.strength
        return self._towards(mean, var, 1 - torch.exp(-weight * self._drift(mean, var)))

    def _calibrated(self, mean: Tensor, var: Tensor) -> tuple[Tensor, Tensor]:
        """See ``CalibratedBatchNorm2d``."""
        if self.follows:
            old_mean, old_var = self.stream_mean, self.stream_var
            distance = self._divergence(mean, var, old_mean, old_var).mean()
            kept = torch.full_like(distance, 1 - self.momentum)
            jumped = distance > JUMP * self.usual_drift.mean()
            share = 1 - torch.where(jumped, torch.zeros_like(kept), kept)
            apart = mean - old_mean
            mean = old_mean + share * apart
            spread = share * (1 - share) * apart.square()
            var = old_var + share * (var - old_var) + spread
        excess = self._drift(mean, var) - self.tolerance * self.usual_drift
        return self._towards(mean, var, 1 - torch.exp(-self.blend_weight * excess.clamp(min=0)))


class PlainNorm(nn.Module):
    """Normalises a map by the statistics of the map, blended with the source's by the mode.

    Args:
        *options: See ``FrameStatistics``.
    """

    def __init__(self, *options) -> None:
        super().__init__()
        self.statistics_in_float32 = FrameStatistics(*options)

    def forward(self, x: Tensor) -> Tensor:
        """(1, C, H, W) to the same shape."""
        scale, shift = self.statistics_in_float32(x)
        if x.dtype != scale.dtype:
            scale, shift = scale.to(x.dtype), shift.to(x.dtype)
        return x * scale + shift


def plain_norm(
    norm: nn.Module,
    shared: SharedFrame,
    one_value: bool,
    listened: bool = False,
    gated: bool = False,
) -> Optional[nn.Module]:
    """Builds the module that replaces a norm in a plain network.

    Args:
        norm: Any module.
        shared: The ``SharedFrame`` of the network.
        one_value: Whether the norm's maps have one value per channel, which has no variance.
        listened, gated: See ``FrameStatistics``.

    Returns:
        A ``PlainNorm``. A ``BatchNorm2d``, which can be folded into a convolution, if the norm uses
        the source's statistics. An ``Identity`` if features are not aligned. None if the module
        needs no replacement.
    """
    if isinstance(norm, CalibratedFeatures) and (one_value or not norm.measured):
        return nn.Identity()
    if isinstance(norm, FrameBatchNorm2d):
        return _frozen(norm) if one_value else PlainNorm(norm, shared)
    if not isinstance(norm, AdaptiveBatchNorm2d):
        return None
    if norm.mode == 'source' or one_value:
        return _frozen(norm)
    return PlainNorm(norm, shared, listened, gated)


def _frozen(norm: nn.Module) -> nn.BatchNorm2d:
    """A BatchNorm that normalises by the norm's running statistics."""
    frozen = nn.BatchNorm2d(norm.num_features, norm.eps, affine=norm.weight is not None)
    frozen.load_state_dict(norm.state_dict(), strict=False)
    return frozen.to(norm.running_mean.dtype).eval().requires_grad_(False)
