"""Reconstructs a sparse network block by block against the dense one.

Each block learns to give out what the dense block gives out on clear frames. Its inputs come from
the sparse network, so that a block also makes up for errors of the blocks before it.

From UniPTS (arXiv 2405.18810) comes the training of masked weights: the mask is found again during
training, the gradient passes straight through it, and cut weights decay. So a weight that was
wrongly cut grows back, and another one is cut for it. Different here: UniPTS rejects an error per
layer, and trains the whole network by its last logits for hours on a GPU. Blocks of some layers
need minutes on a CPU and the memory of one block. The statistics of norms stay those of the dense
network, because the methods of this package measure drift from them.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.func import functional_call

from ..datasets.clear_frames import ClearFrames
from .calls import Call, blocks_of, calls_of, copied
from .masks import MaskRule

# The mask is found again at this interval, and only in this first share of the steps.
_REGROW_EVERY, _REGROW_UNTIL = 5, 0.75
# Pull of a cut weight towards zero, as in the public code of UniPTS.
_DECAY = 5e-5


class Reconstructed(NamedTuple):
    """The outcome of one block.

    Attributes:
        name: The block.
        before: Squared error of its output as a share of the dense output's energy, if its weights
            are cut by magnitude alone.
        after: The same error after the reconstruction; never above ``before``.
        regrown: Number of weights that the first mask cut and the last one keeps.
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

    The network is complete after the last block.

    Args:
        model: The segmentor, in evaluation mode and still dense; changed in place. Weights, biases
            and the affine parameters of norms learn, buffers stay.
        dense: A copy of it, which stays as it is.
        frames: Clear frames, at least one; see ``windows_of``.
        weights: The weights of ``model`` to cut, by name.
        rule: Gives the mask of a weight.
        steps: Steps of each block, one frame a step; 0 cuts by magnitude alone.
        rate: Step size of Adam, as a share of the mean magnitude of a parameter.

    Yields:
        The outcome of each block, in the order of the prediction. Weights outside of all blocks
        (of a layer that is called several times) are cut by magnitude alone.

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
                # A weight without a part in the block's output has no gradient.
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
        """Parameters whose cut weights are zero and still get the gradient of their place."""
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
        """Squared error of a frame's output, as a share of the mean energy of a frame's."""
        args, kwargs = copied(call.args), copied(call.kwargs)
        output = functional_call(self.block, dict(parameters), args, kwargs)
        return (output - call.output).square().sum() / self.energy

    @torch.no_grad()
    def _error(self) -> float:
        state = self._cut()
        return sum(float(self._loss(call, state)) for call in self.calls) / len(self.calls)
