"""Frozen decode heads: from the backbone's outputs to small logits, and back."""

from abc import ABC, abstractmethod
from typing import Callable, Optional

import torch
from torch import Tensor, nn

from ..lean import lean_autograd
from .operator import Tape, add_into

# A gradient that is still to be computed: given the sum to add it to, or None.
PendingGradient = Callable[[Optional[Tensor]], Tensor]


class HeadOperator(ABC):
    """A decode head whose parameters are frozen.

    Args:
        head: The mmseg head.

    Attributes:
        reads: Which of the backbone's outputs the head looks at, by position; the others need not
            be kept. None for all of them.
    """

    reads: Optional[tuple[int, ...]] = None

    @abstractmethod
    def forward(self, features: list[Optional[Tensor]], tape: Optional[Tape] = None) -> Tensor:
        """Computes bit for bit what the head computes in evaluation mode.

        Args:
            features: The backbone's outputs; None where the head does not read one. A list whose
                places are set to None as soon as what is there is used up.
            tape: Takes what ``backward`` needs; None where there will be none.

        Returns:
            (N, classes, h, w) logits.
        """

    @abstractmethod
    def backward(self, grad: Tensor, tape: Tape) -> dict[int, PendingGradient]:
        """The gradients with respect to the features that were read.

        Args:
            grad: As the logits; its memory may be written to.
            tape: As the forward left it.

        Returns:
            By position, functions that add a gradient to a sum. They may be called once each and
            long after: what they hold until then is small.
        """

    def fallbacks(self) -> list[str]:
        """Names of the modules inside that are run by autograd."""
        return []


def ready(gradient: Tensor) -> PendingGradient:
    """A gradient that is there already."""
    return lambda into=None: add_into(gradient, into)


class AutogradHead(HeadOperator):
    """Any head, by lean autograd; its graph stays until backward."""

    def __init__(self, head: nn.Module) -> None:
        self.head = head
        # Heads may read more than their ``in_index`` says (DeepLabV3+'s low-level features do).
        self.reads = None

    def forward(self, features: list[Optional[Tensor]], tape: Optional[Tape] = None) -> Tensor:
        """See base class."""
        if tape is None:
            return self.head.forward(features)
        with torch.enable_grad(), lean_autograd():
            leaves = [f if f is None else f.detach().clone().requires_grad_() for f in features]
            output = self.head.forward(leaves)
        tape.append((leaves, output))
        return output.detach().clone()

    def backward(self, grad: Tensor, tape: Tape) -> dict[int, PendingGradient]:
        """See base class."""
        leaves, output = tape.pop()
        given = {i: leaf for i, leaf in enumerate(leaves) if leaf is not None}
        gradients = torch.autograd.grad(output, list(given.values()), grad, allow_unused=True)
        return {i: ready(g) for i, g in zip(given, gradients) if g is not None}

    def fallbacks(self) -> list[str]:
        """See base class."""
        return [f'decode head ({type(self.head).__name__})']


_HEADS: dict[type, Callable[[nn.Module], Optional[HeadOperator]]] = {}


def head_operator_for(*head_classes: type) -> Callable:
    """Decorator of a function from a head of these classes to its operator, or to None."""

    def register(builder: Callable[[nn.Module], Optional[HeadOperator]]) -> Callable:
        for head_class in head_classes:
            _HEADS[head_class] = builder
        return builder

    return register


def build_head_operator(head: nn.Module) -> HeadOperator:
    """The operator of a decode head; autograd where none is known."""
    builder = _HEADS.get(type(head))
    operator = builder(head) if builder is not None else None
    return AutogradHead(head) if operator is None else operator
