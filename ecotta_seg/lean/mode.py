"""The mode under which torch's own functions keep less for their backward.

Autograd keeps the input of a convolution even if the kernel is frozen, the whole output of a ReLU,
and the input of a BatchNorm whose scale is frozen. Under ``LeanAutograd`` such calls run the same
kernels forward and keep what the gradient of the *input* needs: nothing, one bit an element, one
number a channel. The mode looks at functions and not at modules: any model profits, also one that
calls ``torch.nn.functional`` itself.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

# By torch's function: takes the call's arguments and gives the result, or ``NotImplemented`` for
# a call that torch itself has to run.
Rule = Callable[..., object]
_RULES: dict[Callable, Rule] = {}


def register_rule(*functions: Callable) -> Callable[[Rule], Rule]:
    """Decorator: the rule runs these functions of torch under ``LeanAutograd``.

    A rule has the signature of its functions. Its first argument is the input; the mode asks the
    rule only if the input needs a gradient.

    Args:
        functions: As torch hands them to ``__torch_function__``.
    """

    def register(rule: Rule) -> Rule:
        for function in functions:
            _RULES[function] = rule
        return rule

    return register


class LeanAutograd(TorchFunctionMode):
    """Inside, frozen layers keep only what the gradient of their input needs.

    The results of the forward are bit for bit those of torch. Gradients agree to rounding, can be
    taken several times (``retain_graph``), and not differentiated again. A call that no rule knows
    (trainable weights, another kind of layer) is torch's own.

    Torch leaves its modes while it goes backward. So a function that ``torch.utils.checkpoint``
    recomputes without reentrance has to enter the mode itself, as ``recomputing`` has it do.

    Example:
        >>> x = torch.randn(1, 3, 8, 8, requires_grad=True)
        >>> with LeanAutograd():
        ...     torch.relu(x).sum().backward()
    """

    def __torch_function__(self, func, types, args=(), kwargs=None):
        """Torch calls this instead of each of its functions."""
        kwargs = kwargs or {}
        rule = _RULES.get(func)
        if rule is not None and torch.is_grad_enabled():
            x = args[0] if args else kwargs.get('input')
            if isinstance(x, Tensor) and x.requires_grad:
                result = rule(*args, **kwargs)
                if result is not NotImplemented:
                    return result
        return func(*args, **kwargs)


_PLAIN: ContextVar[bool] = ContextVar('plain autograd', default=False)


def lean_autograd() -> AbstractContextManager:
    """``LeanAutograd``; inside ``plain_autograd`` a context that does nothing."""
    return nullcontext() if _PLAIN.get() else LeanAutograd()


@contextmanager
def plain_autograd(wanted: bool = True) -> Iterator[None]:
    """Inside, ``lean_autograd`` does nothing: steps are torch's own, to compare with.

    Args:
        wanted: False leaves all as it is.
    """
    before = _PLAIN.set(wanted or _PLAIN.get())
    try:
        yield
    finally:
        _PLAIN.reset(before)


def frozen(*tensors: object) -> bool:
    """Whether none of the arguments is a tensor that needs a gradient."""
    return not any(isinstance(t, Tensor) and t.requires_grad for t in tensors)
