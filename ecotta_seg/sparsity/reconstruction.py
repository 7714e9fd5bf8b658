"""Trains the blocks of a sparse network to reproduce the outputs of the dense network's blocks.

The training uses clear frames. The inputs of a block come from the sparse network and its targets
from the dense network, so a block also corrects errors of the blocks before it.

The training of masked weights follows UniPTS (arXiv 2405.18810): the mask is computed again during
training, gradients ignore the mask (straight-through), and cut weights decay. So a wrongly cut
weight can grow back, and another weight is cut instead. One point differs: UniPTS rejects an error
per layer and trains the whole network on its logits for hours on a GPU. Here blocks of a few layers
are trained one by one, in minutes on a CPU and with the memory of one block. The running statistics
of norms do not change, because the methods of this package measure drift from them.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.func import functional_call

from ..datasets.clear_frames import ClearFrames
from .calls import Call, blocks_of, calls_of, copied
from .masks import MaskRule

# The mask is computed again every five steps, but only in the first three quarters of the steps.
_REGROW_EVERY, _REGROW_UNTIL = 5, 0.75
# Weight decay of cut weights, as in the public code of UniPTS.
_DECAY = 5e-5


class Reconstructed(NamedTuple):
    """The result for one block.

    Attributes:
        name: Name of the block.
        before: Squared error of the block's output, divided by the sum of the squared dense output,
            if the weights are cut by magnitude alone.
        after: The same error after the reconstruction; never above ``before``.
        regrown: Number of weights that the first mask cuts but the last mask keeps.
    """

    name: str
    before: float
    after: float
    regrown: int


def cut_weights(weights: Mapping[str, nn.Parameter], rule: MaskRule) -> None:
    """Cuts weights in place without any reconstruction."""
    with torch.no_grad():
        for name, weight in weights.items():
            weight.mul_(rule(name, weight))


def reconstruct(
    model: nn.Module,
    dense: nn.Module,
    frames: ClearFrames,
    weights: Mapping[str, nn.Parameter],
    rule: MaskRule,
    steps: int = 60,
    rate: float = 0.02,
) -> Iterator[Reconstructed]:
    """Cuts the weights of a network and reconstructs its blocks, one after the other.

    The network is complete only after the last result is yielded.

    Args:
        model: The segmentor, in evaluation mode and still dense; changed in place. Weights, biases
            and the affine parameters of norms are trained; buffers do not change.
        dense: A copy of the segmentor, which is not changed.
        frames: Clear frames, at least one; see ``windows_of``.
        weights: The weights of ``model`` to cut, by name.
        rule: Returns the mask of a weight.
        steps: Number of training steps for each block, each on one frame. 0 cuts by magnitude
            alone.
        rate: Step size of Adam, as a share of the mean magnitude of a parameter.

    Yields:
        The result for each block, in the order of the prediction. Weights outside of all blocks
        (for example of a layer that is called several times) are cut by magnitude alone.

    Raises:
        ValueError: There is no frame.
    """
    if not frames:
        raise ValueError('expected at least one clear frame to reconstruct on, got none')
    blocks = blocks_of(model, frames[0], list(weights))
    inside = {name for names in blocks.values() for name in names}
    cut_weights({name: w for name, w in weights.items() if name not in inside}, rule)
    for block, names in blocks.items():
        targets = [call.output for call in calls_of(dense, block, frames)]
        inputs = calls_of(model, block, frames)
        calls = [call._replace(output=target) for call, target in zip(inputs, targets)]
        fit = _BlockFit(model.get_submodule(block), block, names, rule, calls)
        yield fit.run(steps, rate)


class _BlockFit:
    """The training of one block's masked weights."""

    def __init__(
        self,
        block: nn.Module,
        name: str,
        weights: Sequence[str],
        rule: MaskRule,
        calls: Sequence[Call],
    ) -> None:
        self.block, self.name, self.rule, self.calls = block, name, rule, calls
        self.names = [weight[len(name) + 1 :] for weight in weights]
        self.values = {
            key: p.detach().clone().requires_grad_(p.is_floating_point())
            for key, p in block.named_parameters()
        }
        self.masks = self._masks()
        self.first = self.masks
        self.energy = max(sum(float(c.output.square().sum()) for c in calls), 1e-30) / len(calls)

    def run(self, steps: int, rate: float) -> Reconstructed:
        before = self._error()
        best, state = before, self._cut()
        optimizer = torch.optim.Adam(
            [
                dict(params=[value], lr=rate * max(float(value.detach().abs().mean()), 1e-3))
                for value in self.values.values()
            ]
        )
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, max(steps, 1))
        for step in range(steps):
            optimizer.zero_grad()
            self._loss(self.calls[step % len(self.calls)], self._passed_through()).backward()
            for name, mask in self.masks.items():
                value = self.values[name]
                # A weight that does not influence the block's output has no gradient.
                if value.grad is not None:
                    value.grad.add_(value.detach() * ~mask, alpha=_DECAY)
            optimizer.step()
            schedule.step()
            if (step + 1) % _REGROW_EVERY == 0 and step < _REGROW_UNTIL * steps:
                self.masks = self._masks()
            if (step + 1) % max(steps // 4, 1) == 0 or step == steps - 1:
                error = self._error()
                if error < best:
                    best, state = error, self._cut()
        with torch.no_grad():
            for key, parameter in self.block.named_parameters():
                parameter.copy_(state[key])
        kept = [state[name] != 0 for name in self.names]
        regrown = sum(int((k & ~self.first[n]).sum()) for k, n in zip(kept, self.names))
        return Reconstructed(self.name, before, best, regrown)

    def _masks(self) -> dict[str, Tensor]:
        return {name: self.rule(f'{self.name}.{name}', self.values[name]) for name in self.names}

    def _passed_through(self) -> dict[str, Tensor]:
        """Parameters in which cut weights are zero but still get a gradient (straight-through)."""
        used = dict(self.values)
        for name, mask in self.masks.items():
            value = self.values[name]
            used[name] = value - (value * ~mask).detach()
        return used

    def _cut(self) -> dict[str, Tensor]:
        with torch.no_grad():
            state = {key: value.detach().clone() for key, value in self.values.items()}
            for name, mask in self.masks.items():
                state[name].mul_(mask)
        return state

    def _loss(self, call: Call, parameters: Mapping[str, Tensor]) -> Tensor:
        """Squared error of the output for a frame, divided by the mean energy of a dense output."""
        args, kwargs = copied(call.args), copied(call.kwargs)
        output = functional_call(self.block, dict(parameters), args, kwargs)
        return (output - call.output).square().sum() / self.energy

    @torch.no_grad()
    def _error(self) -> float:
        state = self._cut()
        return sum(float(self._loss(call, state)) for call in self.calls) / len(self.calls)
