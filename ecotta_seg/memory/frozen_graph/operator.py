"""Runs a frozen module by a hand-written forward and backward pass that keep few tensors.

Autograd keeps the tensors for gradients of *parameters*, even if they are frozen, and decides when
to free them. A ``FrozenOperator`` runs the same module by hand. The forward pass puts the tensors
that the gradient with respect to the *input* needs on a tape. The backward pass removes them from
the tape in reverse order, and may overwrite the incoming gradient. If no operator is known for a
module, autograd runs the module, and ``fallbacks`` names it.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import Callable, Optional

import torch
from torch import Tensor, nn

from ..lean import lean_autograd


class Tape(list):
    """The stack of tensors that the backward needs.

    Args:
        generous: If True, tensors that are expensive to recompute are kept as well. If False, only
            tensors that need little memory are kept.
        workspace: Maximum elements of a temporary of the backward.
    """

    def __init__(self, generous: bool = True, workspace: int = 2**22) -> None:
        super().__init__()
        self.generous, self.workspace = generous, workspace


class FrozenOperator(ABC):
    """One module, or a sequence of modules, with frozen parameters.

    Attributes:
        parts: The operators inside this operator.
    """

    parts: Iterable['FrozenOperator'] = ()

    @abstractmethod
    def forward(self, x: Tensor, tape: Optional[Tape] = None) -> Tensor:
        """Computes the same output as the module in evaluation mode, bit for bit.

        Args:
            x: The module's input; it is not changed.
            tape: Receives the tensors for ``backward``; None if there is no backward.

        Returns:
            The output, in new memory.
        """

    @abstractmethod
    def backward(self, grad: Tensor, tape: Tape, into: Optional[Tensor] = None) -> Tensor:
        """The gradient with respect to the input.

        Args:
            grad: The gradient with respect to the output: contiguous; may be overwritten.
            tape: The tape of the forward pass, whose entries are removed.
            into: A tensor of the input's shape, to which the gradient is added. None creates a new
                tensor.

        Returns:
            The gradient; ``into`` if given.
        """

    def fallbacks(self) -> list[str]:
        """Names of the modules inside that run under autograd."""
        return [name for part in self.parts for name in part.fallbacks()]


def add_into(gradient: Tensor, into: Optional[Tensor]) -> Tensor:
    """Adds the gradient to ``into`` and returns it; if ``into`` is None, returns the gradient."""
    return gradient if into is None else into.add_(gradient)


class AutogradOperator(FrozenOperator):
    """Any module, run by lean autograd; the graph is kept until the backward.

    Args:
        function: Takes the input and returns the output.
        name: The module's name in the report.
    """

    def __init__(self, function: Callable[[Tensor], Tensor], name: str) -> None:
        self.function, self.name = function, name

    def forward(self, x: Tensor, tape: Optional[Tape] = None) -> Tensor:
        """See base class."""
        if tape is None:
            return self.function(x).clone()
        with torch.enable_grad(), lean_autograd():
            # The graph needs its own copy of the input, because the caller may overwrite ``x``.
            leaf = x.detach().clone().requires_grad_()
            output = self.function(leaf)
        tape.append((leaf, output))
        return output.detach().clone()

    def backward(self, grad: Tensor, tape: Tape, into: Optional[Tensor] = None) -> Tensor:
        """See base class."""
        leaf, output = tape.pop()
        return add_into(torch.autograd.grad(output, leaf, grad)[0], into)

    def fallbacks(self) -> list[str]:
        """See base class."""
        return [self.name]


class Sequence(FrozenOperator):
    """Runs operators one after another.

    A sequence inside the sequence is flattened. Otherwise the outer sequence would hold the inner
    sequence's input during its whole run.
    """

    def __init__(self, parts: Iterable[FrozenOperator]) -> None:
        self.parts: list[FrozenOperator] = []
        for part in parts:
            self.parts += part.parts if isinstance(part, Sequence) else [part]

    def forward(self, x: Tensor, tape: Optional[Tape] = None) -> Tensor:
        """See base class."""
        for part in self.parts:
            x = part.forward(x, tape)
        return x

    def backward(self, grad: Tensor, tape: Tape, into: Optional[Tensor] = None) -> Tensor:
        """See base class."""
        for index in range(len(self.parts) - 1, 0, -1):
            grad = self.parts[index].backward(grad, tape)
        return self.parts[0].backward(grad, tape, into)


_BUILDERS: dict[type, Callable[[nn.Module], Optional[FrozenOperator]]] = {}


def operator_for(*module_classes: type) -> Callable:
    """Decorator of a function that takes a module of these classes and returns its operator.

    The function returns None for a module that it does not support; autograd then runs the module.
    """

    def register(builder: Callable[[nn.Module], Optional[FrozenOperator]]) -> Callable:
        for module_class in module_classes:
            _BUILDERS[module_class] = builder
        return builder

    return register


def build_operator(module: nn.Module, name: str = '') -> FrozenOperator:
    """Builds the operator of a module; an ``AutogradOperator`` if no other is known.

    Args:
        module: The module, in evaluation mode and with frozen parameters.
        name: The module's name in the report, before its class.
    """
    # The exact class, because a subclass may compute something else.
    builder = _BUILDERS.get(type(module))
    operator = builder(module) if builder is not None else None
    if operator is None:
        return AutogradOperator(module, f'{name} ({type(module).__name__})'.strip())
    return operator
