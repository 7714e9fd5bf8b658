"""SAR: sharpness-aware entropy of reliable pixels, with a reset on collapse."""

from collections.abc import Sequence
from math import log
from typing import Optional

import torch
from torch import Tensor, nn

from ..inference.windows import forward_windows
from ..layers.losses import pixel_entropy
from ..layers.norm_parameters import release_norm_parameters
from ..registry import ADAPTATION_METHODS
from ..resume.saved_state import misfit
from .gradient_adaptation import GradientAdaptation

_MOMENTUM = 0.9  # momentum of the mean entropy, in the paper and its code
# The last stage of ResNets, the last stage of MiTs, and the decode head.
TOP_LAYERS = ('backbone.layer4', 'backbone.layers.3', 'decode_head')


@ADAPTATION_METHODS.register_module(name='sar')
class SAR(GradientAdaptation):
    """Sharpness-aware and reliable entropy minimisation (Niu et al., ICLR 2023, arXiv 2302.12400).

    A first forward and backward gives the gradient g of the mean entropy of reliable pixels (H <
    E0, Eq. 2). The parameters climb by ``radius`` * g / |g| (Eq. 4). A second forward and backward
    pass at these parameters gives the gradient for the optimizer's step (Eq. 5), over the pixels
    that are reliable in both passes. The step starts from the parameters before the climb. **The
    first forward's prediction is scored.** If a moving average of the second entropy falls below
    ``recovery_threshold``, the method has collapsed and resets to the source.

    Deviations: pixels replace images. The public code does not update the last stage (layer4) and
    the final norm; here these are the last stage and the decode head. If no pixel is reliable
    before or after climbing, there is no step. In the public code ``reset`` clears the moving
    average, but the caller then writes the low value back. So each following step resets again
    until the average is above the limit. Here the average is empty after a reset.

    Args:
        segmentor: The source model; scale and shift of its norms are updated, see
            ``release_norm_parameters``.
        optimizer: A config of a torch optimizer.
        entropy_threshold: E0 as a multiple of ln C (0.4 in the paper).
        radius: ρ (0.05 in the paper).
        recovery_threshold: e0 as a multiple of ln C; 0 for no resets. (The paper has 0.2 nats for
            1000 classes and images: 0.029 ln C.)
        skip: Names of modules whose norms are not updated.

    Raises:
        ValueError: An option is out of range, or nothing is left to update.
    """

    def __init__(
        self,
        segmentor: nn.Module,
        optimizer: dict,
        entropy_threshold: float = 0.4,
        radius: float = 0.05,
        recovery_threshold: float = 0.029,
        skip: Sequence[str] = TOP_LAYERS,
    ) -> None:
        if entropy_threshold <= 0 or radius < 0 or recovery_threshold < 0:
            raise ValueError(
                'expected entropy_threshold above 0, radius and recovery_threshold from 0, got '
                f'{entropy_threshold}, {radius} and {recovery_threshold}'
            )
        super().__init__(segmentor, optimizer)
        release_norm_parameters(segmentor, skip)
        if not self.adaptable_parameters():
            raise ValueError(f'no norm is left to update: skip fewer than {list(skip)}')
        classes = log(segmentor.out_channels)
        self.entropy_threshold = entropy_threshold * classes
        self.recovery_threshold = recovery_threshold * classes
        self.radius = radius
        self.mean_entropy: Optional[float] = None
        self.start()

    def propose(self, inputs: Tensor, metas: list[dict]) -> Tensor:
        """See base class. Makes the first forward pass; ``update`` makes the second one."""
        self._reliable: list[Tensor] = []
        self._inputs, self._metas = inputs, metas
        self.last_step.loss = self.last_step.entropy = 0.0
        return super().propose(inputs, metas)

    def discard(self) -> None:
        """See base class. Also frees the frame."""
        super().discard()
        self._inputs = self._metas = self._masks = None
        self._reliable = []

    def learn(self, logits: Tensor, share: float) -> None:
        """See base class. Computes the gradient g for the climb."""
        entropy = pixel_entropy(logits)
        reliable = entropy.detach() < self.entropy_threshold
        self._reliable.append(reliable)
        pixels = sum(mask.numel() for mask in self._reliable)
        record = self.last_step
        record.confident_fraction = float(sum(m.sum() for m in self._reliable)) / pixels
        if reliable.any():
            loss = share * _mean_over(entropy, reliable)
            loss.backward()
            record.entropy += float(loss.detach())

    def update(self) -> None:
        """See base class. Climbs, runs the second pass, goes back and steps; may reset."""
        parameters = list(self.adaptable_parameters().values())
        if all(parameter.grad is None for parameter in parameters):
            return
        before = [parameter.detach().clone() for parameter in parameters]
        self.climb(parameters)
        self._masks, self._second, self._shares = iter(self._reliable), 0.0, 0.0
        with self.within_budget(self._inputs, self._metas), torch.enable_grad():
            forward_windows(self.segmentor, self._inputs, self._metas, self._look_again)
        with torch.no_grad():
            for parameter, value in zip(parameters, before):
                parameter.copy_(value)
        if self._shares == 0:
            return
        self.last_step.loss = self._second
        super().update()
        entropy = self._second / self._shares
        if self.mean_entropy is not None:
            entropy = _MOMENTUM * self.mean_entropy + (1 - _MOMENTUM) * entropy
        self.mean_entropy = entropy
        if entropy < self.recovery_threshold:
            self.reset()
            self.last_step.own_reset = (
                f'SAR: the moving average of the entropy is {entropy:.3g}, below '
                f'{self.recovery_threshold:.3g} nats'
            )

    @torch.no_grad()
    def climb(self, parameters: list[nn.Parameter]) -> None:
        """Moves the parameters by ``radius`` along the gradient, then frees the gradient."""
        gradients = [p.grad for p in parameters if p.grad is not None]
        norm = torch.stack([gradient.norm() for gradient in gradients]).norm()
        for parameter in parameters:
            if parameter.grad is not None:
                parameter.add_(parameter.grad * (self.radius / (norm + 1e-12)))
        self.optimizer.zero_grad(set_to_none=True)

    def _look_again(self, logits: Tensor, share: float) -> None:
        entropy = pixel_entropy(logits)
        chosen = next(self._masks) & (entropy.detach() < self.entropy_threshold)
        if chosen.any():
            loss = share * _mean_over(entropy, chosen)
            loss.backward()
            self._second += float(loss.detach())
            self._shares += share

    def method_state(self) -> dict:
        """See base class; includes the moving average of the entropy."""
        return {**super().method_state(), 'mean_entropy': self.mean_entropy}

    def state_keys(self) -> set[str]:
        """See base class."""
        return super().state_keys() | {'mean_entropy'}

    def check_method_state(self, state: dict) -> None:
        """See base class."""
        super().check_method_state(state)
        if not isinstance(state['mean_entropy'], (float, type(None))):
            raise misfit('its mean entropy is not a number')

    def take_method_state(self, state: dict) -> None:
        """See base class."""
        super().take_method_state(state)
        self.mean_entropy = state['mean_entropy']

    def reset(self) -> None:
        """See base class; also clears the moving average."""
        super().reset()
        self.mean_entropy = None


def _mean_over(values: Tensor, chosen: Tensor) -> Tensor:
    """The mean of (N, H, W) values over the chosen pixels; at least one must be chosen."""
    return torch.where(chosen, values, values.new_zeros(())).sum() / chosen.sum()
