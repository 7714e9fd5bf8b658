"""Measures on clear frames, without labels, how close a sparse network is to the dense one."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..datasets.clear_frames import ClearFrames
from .calls import predict
from .masks import magnitude_mask

# The fewest values per channel for statistics: the pooled branch of an ASPP head has only one.
_FEWEST_VALUES = 16


@torch.no_grad()
def logits_of(model: nn.Module, frames: ClearFrames) -> list[Tensor]:
    """The logits (1, classes, H, W) of each frame."""
    return [predict(model, frame) for frame in frames]


def divergence(dense: Tensor, sparse: Tensor) -> float:
    """Kullback-Leibler divergence KL(dense || sparse), averaged over pixels, in nats.

    Args:
        dense: (N, classes, H, W) logits of the dense network; one class means a sigmoid.
        sparse: Logits of the sparse network, in the same shape.
    """
    if dense.shape[1] == 1:
        dense, sparse = (torch.cat([torch.zeros_like(x), x], 1) for x in (dense, sparse))
    from_, to = F.log_softmax(dense, 1), F.log_softmax(sparse, 1)
    return float((from_.exp() * (from_ - to)).sum(1).mean())


def output_error(dense: Sequence[Tensor], sparse: Sequence[Tensor]) -> float:
    """Squared error of the logits, divided by the sum of the squared dense logits."""
    wrong = sum(float((a - b).square().sum()) for a, b in zip(dense, sparse))
    return wrong / max(sum(float(a.square().sum()) for a in dense), 1e-30)


def agreement(dense: Sequence[Tensor], sparse: Sequence[Tensor]) -> float:
    """Share of pixels, 0 to 1, for which both networks predict the same class."""
    same = [(_classes(a) == _classes(b)).float().mean() for a, b in zip(dense, sparse)]
    return float(torch.stack(same).mean())


def _classes(logits: Tensor) -> Tensor:
    return logits.argmax(1) if logits.shape[1] > 1 else logits[:, 0] > 0


class CutFitness:
    """Rates an allocation by the divergence of the cut network from the dense one; lower is better.

    As in UniPTS (arXiv 2405.18810), the BatchNorms use the statistics of the frames, and noise is
    added to the frames. So the best allocation fits not only these few frames.

    Args:
        model: The dense segmentor, in evaluation mode. Its weights change only during a call.
        frames: Clear frames.
        weights: The weights that are cut, by name.
        noise: Standard deviation of the Gaussian noise, as a share of the frame's standard
            deviation.
        seed: Seed of the noise, which is the same for all allocations.
    """

    def __init__(
        self,
        model: nn.Module,
        frames: ClearFrames,
        weights: Mapping[str, nn.Parameter],
        noise: float = 0.05,
        seed: int = 0,
    ) -> None:
        self.model, self.weights = model, weights
        generator = torch.Generator().manual_seed(seed)
        self.frames = []
        for inputs, metas in frames:
            drawn = torch.randn(inputs.shape, generator=generator).to(inputs)
            self.frames.append((inputs + noise * inputs.std() * drawn, metas))
        self.dense = logits_of(model, frames)

    @torch.no_grad()
    def __call__(self, cuts: Mapping[str, int]) -> float:
        """Cuts weights of each layer, measures the divergence in nats, restores the weights."""
        before = {name: self.weights[name].detach().clone() for name in cuts}
        try:
            for name, cut in cuts.items():
                self.weights[name].mul_(magnitude_mask(before[name], cut))
            with statistics_of_frames(self.model):
                sparse = logits_of(self.model, self.frames)
        finally:
            for name, weight in before.items():
                self.weights[name].copy_(weight)
        found = [divergence(a, b) for a, b in zip(self.dense, sparse)]
        return sum(found) / len(found)


@contextmanager
def statistics_of_frames(model: nn.Module) -> Iterator[None]:
    """Context manager in which each BatchNorm normalises by the statistics of its input."""
    norms = [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    norms = [norm for norm in norms if norm.running_mean is not None]
    kept = [(norm.running_mean.clone(), norm.running_var.clone()) for norm in norms]

    def measure(norm: nn.Module, args: tuple[Tensor, ...]) -> None:
        values = args[0].detach().transpose(0, 1).flatten(1)
        if values.shape[1] >= _FEWEST_VALUES:
            norm.running_mean.copy_(values.mean(1))
            norm.running_var.copy_(values.var(1, unbiased=False))

    handles = [norm.register_forward_pre_hook(measure) for norm in norms]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
        for norm, (mean, var) in zip(norms, kept):
            norm.running_mean.copy_(mean)
            norm.running_var.copy_(var)
