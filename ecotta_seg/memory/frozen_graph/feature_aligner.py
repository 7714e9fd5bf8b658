"""The alignment of features at the end of a part, which keeps C numbers."""

from typing import Optional

from torch import Tensor, nn

from .operator import FrozenOperator, Tape, add_into


class FeatureAligner(FrozenOperator):
    """Computes scale * x + shift; scale and shift are constants in the backward pass.

    Args:
        module: A module with the method ``scale_and_shift``, see ``CalibratedFeatures``.
    """

    def __init__(self, module: nn.Module) -> None:
        self.module = module

    def forward(self, x: Tensor, tape: Optional[Tape] = None) -> Tensor:
        """See base class."""
        scale, shift = self.module.scale_and_shift(x)
        if tape is not None:
            tape.append(scale)
        return (x * scale).add_(shift)

    def backward(self, grad: Tensor, tape: Tape, into: Optional[Tensor] = None) -> Tensor:
        """See base class."""
        return add_into(grad.mul_(tape.pop()), into)
