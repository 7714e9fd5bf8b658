"""BatchNorms by statistics that follow the stream slowly (RoTTA's robust batch normalisation)."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Optional

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from ..memory.lean.autograd_ops.frame_region import of_frame
from .adaptive_batch_norm import AdaptiveBatchNorm2d
from .replace_norms import batch_norm_places


class RobustBatchNorm2d(AdaptiveBatchNorm2d):
    """Normalises by a moving average of statistics (Yuan et al., arXiv 2303.13899, Eq. 2 and 3).

    If ``moving`` is True, an input's mean and (biased) variance enter the average with the weight
    ``momentum`` before the input is normalised, and gradients flow through that mean and variance.
    An input with one value per channel has no variance and does not change the average.

    Args:
        source: See base class. The average starts at the running statistics of this BatchNorm.
        momentum: 0 to 1.
        sets: Number of independent averages: one for each model that uses the layer (student and
            teacher).

    Attributes:
        chosen: Index of the average to normalise by; None for the source's statistics.
        moving: Whether inputs update the chosen average.
    """

    def __init__(self, source: _BatchNorm, momentum: float, sets: int = 1) -> None:
        super().__init__(source, 'source')
        self.momentum = momentum
        self.register_buffer('robust_mean', source.running_mean.repeat(sets, 1))
        self.register_buffer('robust_var', source.running_var.repeat(sets, 1))
        self.chosen: Optional[int] = 0
        self.moving = False

    def extra_repr(self) -> str:
        """The layer's options for ``print(model)``."""
        return f'{self.num_features}, momentum={self.momentum}'

    @torch.no_grad()
    def statistics(self, x: Tensor, channels: slice = slice(None)) -> tuple[Tensor, Tensor]:
        """See base class."""
        if self.chosen is None:
            return super().statistics(x, channels)
        return self.robust_mean[self.chosen, channels], self.robust_var[self.chosen, channels]

    def forward(self, x: Tensor) -> Tensor:
        """See base class."""
        if self.chosen is None or not self.moving or not self._has_variance(x):
            return super().forward(x)
        # Sums over a map need more precision than bfloat16 has (under autocast).
        wide = torch.promote_types(x.dtype, torch.float32)
        frame = of_frame(x, self.region).to(wide)
        var, mean = torch.var_mean(frame, dim=(0, 2, 3), correction=0)
        mean = self.robust_mean[self.chosen].lerp(mean, self.momentum)
        var = self.robust_var[self.chosen].lerp(var, self.momentum)
        with torch.no_grad():
            self.robust_mean[self.chosen] = mean
            self.robust_var[self.chosen] = var
        scale = torch.rsqrt(var + self.eps)
        shift = -mean * scale
        if self.weight is not None:
            scale, shift = scale * self.weight, shift * self.weight + self.bias
        return (x * scale[:, None, None] + shift[:, None, None]).to(x.dtype)

    @torch.no_grad()
    def forget(self) -> None:
        """Resets all averages to the source's statistics."""
        self.robust_mean.copy_(self.running_mean.expand_as(self.robust_mean))
        self.robust_var.copy_(self.running_var.expand_as(self.robust_var))


def robust_batch_norms(module: nn.Module, momentum: float, sets: int) -> list[RobustBatchNorm2d]:
    """Replaces every BatchNorm of maps below ``module``; returns the new layers.

    Args:
        module: Changed in place.
        momentum, sets: See ``RobustBatchNorm2d``.
    """
    replaced = []
    for parent, name, norm in list(batch_norm_places(module)):
        new = RobustBatchNorm2d(norm, momentum, sets).train(norm.training)
        setattr(parent, name, new)
        replaced.append(new)
    return replaced


@contextmanager
def choosing(
    norms: list[RobustBatchNorm2d], chosen: Optional[int], moving: bool = False
) -> Iterator[None]:
    """Context manager in which the norms use the chosen average, and update it if ``moving``."""
    before = [(norm.chosen, norm.moving) for norm in norms]
    try:
        for norm in norms:
            norm.chosen, norm.moving = chosen, moving
        yield
    finally:
        for norm, (index, was_moving) in zip(norms, before):
            norm.chosen, norm.moving = index, was_moving
