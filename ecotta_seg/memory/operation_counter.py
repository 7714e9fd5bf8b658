"""Counts the arithmetic of a piece of code, on real tensors or on ones without data."""

from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry


class OperationCounter(TorchDispatchMode):
    """Context manager that adds up the operations of convolutions and matrix products.

    A multiplication and an addition count as two, by torch's own formulas. Everything else counts
    nothing: it is small beside them.

    Attributes:
        operations: So far.
    """

    def __init__(self) -> None:
        super().__init__()
        self.operations = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        formula = flop_registry.get(func._overloadpacket)
        if formula is not None:
            self.operations += formula(*args, **kwargs, out_val=result)
        return result
