"""A frozen module as a forward that notes little and a backward that needs no more than that.

Autograd keeps what gradients of *parameters* would need, frozen or not, and frees it when it
likes. A ``FrozenOperator`` runs the same module by hand: forward puts what the gradient with
respect to the *input* needs on a tape, backward takes it off again, last in, first out, and may
write over the gradient it is given. A module that no operator is known for is run by autograd and
named in ``fallbacks``.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import Callable, Optional

import torch
from torch import Tensor, nn

from ..lean import lean_autograd


class Tape(list):
    """What backward will need, a stack.

    Args:
        generous: Keep what costs more time to compute anew than memory to keep; without it only
            what is cheap to keep.
        workspace: Elements that a temporary of the backward may have.
    """

    def __init__(self, generous: bool = True, workspace: int = 2**22) -> None:
        super().__init__()
        self.generous, self.workspace = generous, workspace


class FrozenOperator(ABC):
    """One module, or a row of them, with frozen parameters.

    Attributes:
        parts: The operators that this one is made of.
    """

    parts: Iterable['FrozenOperator'] = ()

    @abstractmethod
    def forward(self, x: Tensor, tape: Optional[Tape] = None) -> Tensor:
        """Computes bit for bit what the module computes in evaluation mode.

        Args:
            x: The module's input; it is left as it is.
            tape: Takes what ``backward`` needs; None where there will be none.

        Returns:
            The output, in memory of its own.
        """

    @abstractmethod
    def backward(self, grad: Tensor, tape: Tape, into: Optional[Tensor] = None) -> Tensor:
        """The gradient with respect to the input.

        Args:
            grad: As the output; contiguous, and lost: its memory may be written to.
            tape: As the forward left it; what that put there is taken off.
            into: As the input: the gradient is added to it. None makes a new tensor.

        Returns:
            The gradient; ``into`` where given.
        """

    def fallbacks(self) -> list[str]:
        """Names of the modules inside that are run by autograd."""
        return [name for part in self.parts for name in part.fallbacks()]


def add_into(gradient: Tensor, into: Optional[Tensor]) -> Tensor:
    """``gradient``, or ``into`` with it added."""
    return gradient if into is None else into.add_(gradient)


class AutogradOperator(FrozenOperator):
    """Any module, by lean autograd: its graph stays until backward.

    Args:
        function: From input to output.
        name: For the report.
    """

    def __init__(self, function: Callable[[Tensor], Tensor], name: str) -> None:
        self.function, self.name = function, name

    def forward(self, x: Tensor, tape: Optional[Tape] = None) -> Tensor:
        """See base class."""
        if tape is None:
            return self.function(x).clone()
        with torch.enable_grad(), lean_autograd():
            # The graph must own its input: what is handed in may be overwritten later.
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
    """Operators one after another. A row within the row is laid open: whoever runs a row inside
    another would hold its input for as long as it takes."""

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
    """Decorator of a function from a module of these classes to its operator.

    The function gives None for a module that it finds not to be as it expects: autograd runs it.
    """

    def register(builder: Callable[[nn.Module], Optional[FrozenOperator]]) -> Callable:
        for module_class in module_classes:
            _BUILDERS[module_class] = builder
        return builder

    return register


def build_operator(module: nn.Module, name: str = '') -> FrozenOperator:
    """The operator of a module; autograd where none is known.

    Args:
        module: In evaluation mode, its parameters frozen.
        name: What the report calls the module; None for its class.
    """
    # The class itself and not a subclass, which may compute something else.
    builder = _BUILDERS.get(type(module))
    operator = builder(module) if builder is not None else None
    if operator is None:
        return AutogradOperator(module, f'{name} ({type(module).__name__})'.strip())
    return operator
