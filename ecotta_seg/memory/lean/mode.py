"""The mode under which torch's own functions keep less data for their backward pass.

Autograd keeps the input of a convolution even if the kernel is frozen, the whole output of a ReLU,
and the input of a BatchNorm even if its scale is frozen. Under ``LeanAutograd`` such calls run the
same forward kernels, but keep only the data for the gradient of the *input*: nothing, one bit per
element, or one number per channel. The mode intercepts functions, not modules, so it also works
for a model that calls ``torch.nn.functional`` directly.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

# A rule takes the call's arguments and returns the result, or ``NotImplemented`` if torch itself
# must run the call. ``_RULES`` maps torch's functions to rules.
Rule = Callable[..., object]
_RULES: dict[Callable, Rule] = {}


def register_rule(*functions: Callable) -> Callable[[Rule], Rule]:
    """Decorator: the rule runs these functions of torch under ``LeanAutograd``.

    A rule has the signature of its functions. Its first argument is the input; the mode calls the
    rule only if the input needs a gradient.

    Args:
        functions: As torch passes them to ``__torch_function__``.
    """

    def register(rule: Rule) -> Rule:
        for function in functions:
            _RULES[function] = rule
        return rule

    return register


class LeanAutograd(TorchFunctionMode):
    """Context manager in which frozen layers keep only the data for the gradient of their input.

    The forward results equal torch's, bit for bit. Gradients agree up to rounding. They can be
    computed several times (``retain_graph``), but not differentiated again. If no rule supports a
    call (trainable weights, another kind of layer), torch runs the call.

    Torch turns its modes off during the backward pass. If ``torch.utils.checkpoint`` recomputes a
    function there (``use_reentrant=False``), the function must enter this mode itself, as in
    ``recomputing``.

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
    """Returns a ``LeanAutograd``, or inside ``plain_autograd`` a context that does nothing."""
    return nullcontext() if _PLAIN.get() else LeanAutograd()


@contextmanager
def plain_autograd(wanted: bool = True) -> Iterator[None]:
    """Context manager in which ``lean_autograd`` does nothing, to compare with torch's autograd.

    Args:
        wanted: If False, the context changes nothing.
    """
    before = _PLAIN.set(wanted or _PLAIN.get())
    try:
        yield
    finally:
        _PLAIN.reset(before)


def frozen(*tensors: object) -> bool:
    """Whether none of the arguments is a tensor that needs a gradient."""
    return not any(isinstance(t, Tensor) and t.requires_grad for t in tensors)
