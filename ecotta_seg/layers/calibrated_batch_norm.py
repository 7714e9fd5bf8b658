"""BatchNorms that correct only shifts beyond the ordinary variation of clear frames."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Optional

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from ..memory.lean.autograd_ops.frame_norm import frame_statistics
from .adaptive_batch_norm import AdaptiveBatchNorm2d

# The usual drift of every channel if there is no calibration. Convolutional segmentors have about
# this mean drift on clear frames (docs/tuning.md).
ESTIMATED_DRIFT = 0.05
# A frame jumps if the divergence of its statistics from the moving average exceeds this multiple of
# the usual drift. Both are means over channels.
JUMP = 5.0
_LEAST_UNIT = 1e-3


class CalibratedBatchNorm2d(AdaptiveBatchNorm2d):
    """Blends in the stream's statistics as far as their drift exceeds that of clear frames (ours).

    The statistics of a single frame depend on the frame's content: even on a clear day, a frame
    without sky differs from the source's statistics. A channel is therefore normalised by

        (1 - w) * source + w * stream,    w = 1 - exp(-weight * max(0, d - tolerance * u))

    ``stream`` is an exponential moving average over the frames of the stream. The average restarts
    if a frame jumps away from it (after a tunnel, or a broken sensor). d is the
    stream's drift from the source (``AdaptiveBatchNorm2d.drift``). u is the channel's usual drift,
    the mean over some clear frames without labels. Without a calibration u is a
    constant, ``ESTIMATED_DRIFT``.

    A forward pass does not change the moving average; ``following`` changes it once per frame. So
    all forward passes on a frame (several views, recomputed parts) start from the same average.
    With sliding windows, the average takes the mean over the windows.

    Args:
        source: See base class.
        weight: At least 0. ``replace_batch_norms`` divides the weight by the number of layers,
            because corrections add up along the depth.
        tolerance: Multiple of the usual drift that does not count as a shift, at least 0.
        momentum: The share of the latest frame in the moving average, above 0 and at most 1.

    Raises:
        ValueError: An option is out of range.
    """

    calibrated_buffers = ('usual_drift',)

    def __init__(
        self,
        source: _BatchNorm,
        weight: float = 40.0,
        tolerance: float = 3.0,
        momentum: float = 0.75,
    ) -> None:
        super().__init__(source, 'drift', weight)
        if tolerance < 0 or not 0 < momentum <= 1:
            raise ValueError(
                'expected a tolerance from 0 and a momentum above 0 and up to 1, got '
                f'{tolerance} and {momentum}'
            )
        self.tolerance, self.momentum = tolerance, momentum
        # The buffers are not persistent, so that the state dict has the same names as the source
        # model's.
        like = self.running_mean
        self.register_buffer('usual_drift', torch.full_like(like, ESTIMATED_DRIFT), False)
        self.register_buffer('stream_mean', torch.zeros_like(like), False)
        self.register_buffer('stream_var', torch.zeros_like(like), False)
        self.register_buffer('followed', like.new_zeros(()), False)
        # The number of the current sliding window, see ``measuring``.
        self.window = 0
        # The moving average including this frame. The keys are the window's number and the first
        # channel of a piece (see ``last_drift``). None outside of ``following``.
        self._next: Optional[dict[tuple[int, int], tuple[slice, Tensor, Tensor]]] = None
        self._drifts: Optional[list[Tensor]] = None

    def extra_repr(self) -> str:
        """The layer's options for ``print(model)``."""
        return f'{super().extra_repr()}, tolerance={self.tolerance}, momentum={self.momentum}'

    @property
    def drift_unit(self) -> Tensor:
        """The mean usual drift of the channels, a scalar; ``last_drift`` is a multiple of it."""
        return self.usual_drift.mean().clamp_min(_LEAST_UNIT)

    @torch.no_grad()
    def statistics(self, x: Tensor, channels: slice = slice(None)) -> tuple[Tensor, Tensor]:
        """See base class."""
        source_mean, source_var = self.running_mean[channels], self.running_var[channels]
        measured = None if self.mode == 'source' else frame_statistics(x.detach(), self.region)
        if measured is None:
            return source_mean, source_var
        mean, var = measured
        if self._drifts is not None:
            self._drifts.append(self._divergence(mean, var, source_mean, source_var))
            return source_mean, source_var
        mean, var = self._averaged(mean, var, channels)
        drift = self._divergence(mean, var, source_mean, source_var)
        if self.last_drift is not None:
            self.last_drift[channels.start or 0] = drift.sum() / self.drift_unit
        return self.blended(mean, var, drift, channels)

    def blended(
        self, mean: Tensor, var: Tensor, drift: Tensor, channels: slice = slice(None)
    ) -> tuple[Tensor, Tensor]:
        """Blends the source's statistics with the stream's by the drift beyond the usual drift.

        Args:
            mean, var: (C,), the stream's mean and variance.
            drift: (C,), the drift of these statistics, see ``drift``.
            channels: The slice of the layer's channels.

        Returns:
            Mean and variance, two (C,) tensors.
        """
        excess = (drift - self.tolerance * self.usual_drift[channels]).clamp_min(0)
        weight = 1 - torch.exp(-self.blend_weight * excess)
        source_mean, source_var = self.running_mean[channels], self.running_var[channels]
        return torch.lerp(source_mean, mean, weight), torch.lerp(source_var, var, weight)

    def _averaged(self, mean: Tensor, var: Tensor, channels: slice) -> tuple[Tensor, Tensor]:
        """Mean and variance of the moving average after the frame with this mean and variance."""
        # The first frame, or a frame that jumps, becomes the average. The choice uses tensor
        # operations and no `if`, so that a dry run without data works.
        old_mean, old_var = self.stream_mean[channels], self.stream_var[channels]
        distance = self._divergence(mean, var, old_mean, old_var).mean()
        jumped = distance > JUMP * self.usual_drift[channels].mean()
        kept = (1 - self.momentum) * self.followed
        share = 1 - torch.where(jumped, torch.zeros_like(kept), kept)
        apart = mean - old_mean
        mean = old_mean + share * apart
        var = old_var + share * (var - old_var) + share * (1 - share) * apart.square()
        if self._next is not None:
            self._next[self.window, channels.start or 0] = (channels, mean, var)
        return mean, var

    @torch.no_grad()
    def _follow(self, pieces: dict[tuple[int, int], tuple[slice, Tensor, Tensor]]) -> None:
        windows: dict[int, list[tuple[slice, Tensor, Tensor]]] = {}
        for (_, start), piece in pieces.items():
            windows.setdefault(start, []).append(piece)
        for found in windows.values():
            (channels, *_), means, variances = zip(*found)
            means = torch.stack(means)
            mean, var = means.mean(0), torch.stack(variances).mean(0)
            self.stream_mean[channels] = mean
            self.stream_var[channels] = var + (means - mean).square().mean(0)
        if pieces:
            self.followed.fill_(1.0)

    @torch.no_grad()
    def forget(self) -> None:
        """Resets the moving average to its start, before the first frame; keeps the calibration."""
        for buffer in (self.stream_mean, self.stream_var, self.followed):
            buffer.zero_()


@contextmanager
def following(norms: Iterable[CalibratedBatchNorm2d]) -> Iterator[None]:
    """Context manager for one frame: on exit, the moving averages include the frame run inside."""
    norms = list(norms)
    for norm in norms:
        norm._next = {}
    done = False
    try:
        yield
        done = True
    finally:
        for norm in norms:
            pieces, norm._next = norm._next, None
            if done:
                norm._follow(pieces)


@contextmanager
def calibrating(norms: Iterable[CalibratedBatchNorm2d]) -> Iterator[None]:
    """Measures the usual drift of each channel: run one forward per clear frame inside the context.

    Inside, the norms normalise by the source's statistics. If a norm receives no map, its usual
    drift does not change.
    """
    norms = list(norms)
    for norm in norms:
        norm._drifts = []
    try:
        yield
    finally:
        for norm in norms:
            drifts, norm._drifts = norm._drifts, None
            if drifts:
                norm.usual_drift.copy_(torch.stack(drifts).mean(0))


def calibrated_norms(module: nn.Module) -> list[CalibratedBatchNorm2d]:
    """All norms of mode 'calibrated' in a module."""
    return [norm for norm in module.modules() if isinstance(norm, CalibratedBatchNorm2d)]


def calibrate_norms(
    norms: Sequence[CalibratedBatchNorm2d],
    frames: Sequence[tuple[Tensor, list[dict]]],
    predict: Callable[[Tensor, list[dict]], Tensor],
) -> None:
    """Measures the usual drift of norms on clear frames.

    Args:
        norms: Norms of the model that ``predict`` runs.
        frames: The preprocessed inputs (1, 3, H, W) and the metainfo of each clear frame.
        predict: Runs the model on a frame.
    """
    if norms:
        with calibrating(norms):
            for inputs, metas in frames:
                predict(inputs, metas)


@contextmanager
def stream_kept(norms: Iterable[CalibratedBatchNorm2d]) -> Iterator[None]:
    """Context manager for frames of another stream: on exit, the moving averages are restored."""
    norms = list(norms)
    before = [(n.stream_mean.clone(), n.stream_var.clone(), n.followed.clone()) for n in norms]
    try:
        yield
    finally:
        for norm, (mean, var, followed) in zip(norms, before):
            norm.stream_mean.copy_(mean)
            norm.stream_var.copy_(var)
            norm.followed.copy_(followed)
