"""Frozen decode heads: logits from the backbone's outputs, and the gradients by these outputs."""

from abc import ABC, abstractmethod
from typing import Callable, Optional

import torch
from torch import Tensor, nn

from ..lean import lean_autograd
from .operator import Tape, add_into

# A function that computes a gradient; its argument is the sum to add the gradient to, or None.
PendingGradient = Callable[[Optional[Tensor]], Tensor]


class HeadOperator(ABC):
    """A decode head whose parameters are frozen.

    Args:
        head: The mmseg head.

    Attributes:
        reads: Positions of the backbone's outputs that the head reads; the others need not be
            kept. None for all outputs.
    """

    reads: Optional[tuple[int, ...]] = None

    @abstractmethod
    def forward(self, features: list[Optional[Tensor]], tape: Optional[Tape] = None) -> Tensor:
        """Computes the same logits as the head in evaluation mode, bit for bit.

        Args:
            features: The backbone's outputs; None for an output that the head does not read. The
                method sets an entry to None when the output is no longer needed.
            tape: Receives the tensors for ``backward``; None if there is no backward.

        Returns:
            (N, classes, h, w) logits.
        """

    @abstractmethod
    def backward(self, grad: Tensor, tape: Tape) -> dict[int, PendingGradient]:
        """Computes the gradients with respect to the features that the head has read.

        Args:
            grad: The gradient with respect to the logits; may be overwritten.
            tape: The tape of the forward pass.

        Returns:
            A dictionary from the position of an output to a function that adds the gradient to a
            sum. Each function may be called once, even much later. Until then it holds little
            memory.
        """

    def fallbacks(self) -> list[str]:
        """Names of the modules inside that run under autograd."""
        return []


def ready(gradient: Tensor) -> PendingGradient:
    """A gradient that is already computed, as a ``PendingGradient``."""
    return lambda into=None: add_into(gradient, into)


class AutogradHead(HeadOperator):
    """Any head, run by lean autograd; the graph is kept until the backward."""

    def __init__(self, head: nn.Module) -> None:
        self.head = head
        # Heads may read more than their ``in_index`` (DeepLabV3+ also reads low-level features).
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
    """Decorator for a function that returns a head's ``HeadOperator``, or None if unsupported."""

    def register(builder: Callable[[nn.Module], Optional[HeadOperator]]) -> Callable:
        for head_class in head_classes:
            _HEADS[head_class] = builder
        return builder

    return register


def build_head_operator(head: nn.Module) -> HeadOperator:
    """Builds the operator of a decode head; an ``AutogradHead`` if no other is known."""
    builder = _HEADS.get(type(head))
    operator = builder(head) if builder is not None else None
    return AutogradHead(head) if operator is None else operator
