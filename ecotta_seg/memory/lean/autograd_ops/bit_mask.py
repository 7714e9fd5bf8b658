"""ReLU that keeps one bit per element for its backward, instead of its whole output."""

from functools import cache
from typing import Optional

import torch
import torch.nn.functional as F
from torch import Tensor

from .backward import of_backward
from .spans import spans

# Eight 0/1 bytes are read as one little-endian 64-bit word. A multiplication by this number moves
# byte i to bit i of the highest byte, so one multiplication packs eight elements.
_PACK = 0x0102040810204080
# Elements that are processed at once: a megabyte of flags stays in the cache.
CHUNK = 2**20


@cache
def _flag_table(device: torch.device) -> Tensor:
    """(256, 8) int32: column i of row b is -1 (all bits set) if bit i of b is set, else 0."""
    codes = torch.arange(256, dtype=torch.int32, device=device).view(-1, 1)
    # Moves bit i to the sign bit; the shift to the right then fills all bits with the sign.
    places = torch.arange(31, 23, -1, dtype=torch.int32, device=device)
    return codes.bitwise_left_shift(places).bitwise_right_shift_(31)


def empty_flags(x: Tensor) -> Tensor:
    """Uninitialised memory for one bit per element of ``x``: (ceil(numel / 8),) uint8."""
    return torch.empty(-(-x.numel() // 8), dtype=torch.uint8, device=x.device)


def pack_positive(x: Tensor, out: Optional[Tensor] = None) -> Tensor:
    """One bit per element, set if the element is above 0.

    Args:
        x: Any shape, contiguous, floating point.
        out: Receives the result; None creates a new tensor.

    Returns:
        (ceil(numel / 8),) uint8, element i in bit ``i % 8`` of byte ``i // 8``.
    """
    flat = x.reshape(-1)
    packed = empty_flags(flat) if out is None else out
    # No larger than the data to pack, rounded up to whole bytes.
    flags = torch.empty(min(CHUNK, 8 * packed.numel()), dtype=torch.bool, device=x.device)
    for span in spans(flat.numel(), CHUNK, x.device):
        piece, start = flat[span], span.start
        words = flags[: -(-piece.numel() // 8) * 8]
        # The last byte may have fewer than eight elements; its other flags must be 0.
        words[-8:] = False
        torch.gt(piece, 0, out=words[: piece.numel()])
        packed_piece = packed[start // 8 : start // 8 + words.numel() // 8]
        packed_piece.copy_(words.view(torch.int64).mul_(_PACK).bitwise_right_shift_(56))
    return packed


def mask_(grad: Tensor, packed: Tensor) -> Tensor:
    """Sets to 0, in place, the elements whose bit is not set.

    Args:
        grad: Any shape, contiguous, float32 or float64.
        packed: The result of ``pack_positive`` for a tensor of as many elements.

    Returns:
        ``grad``.
    """
    flat = grad.view(-1)
    integer = torch.int64 if flat.element_size() == 8 else torch.int32
    if flat.element_size() not in (4, 8):
        return grad.mul_(unpack(packed, grad.shape))
    table = _flag_table(grad.device).to(integer)
    whole = flat.numel() // 8 * 8
    for span in spans(whole, CHUNK, grad.device):
        flags = table.index_select(0, packed[span.start // 8 : span.stop // 8].int())
        flat[span].view(integer).view(-1, 8).bitwise_and_(flags)
        del flags
    if whole < flat.numel():
        flags = table.index_select(0, packed[whole // 8 :].int()).view(-1)
        flat[whole:].view(integer).bitwise_and_(flags[: flat.numel() - whole])
    return grad


def unpack(packed: Tensor, shape: torch.Size) -> Tensor:
    """Converts the bits to a boolean tensor of the given shape."""
    flags = _flag_table(packed.device).index_select(0, packed.int()).view(-1)
    return flags[: shape.numel()].view(shape).bool()


def add_sign_(x: Tensor, positive: Tensor, negative: Tensor, factor: float) -> Tensor:
    """Computes x += factor * sign(d) in place, with the sign stored in two bits per element.

    Args:
        x: Any shape, contiguous, floating point.
        positive, negative: ``pack_positive`` of a tensor d and of -d.
        factor: Added to x if d > 0, subtracted if d < 0.

    Returns:
        ``x``.
    """
    flat = x.view(-1)
    table = _flag_table(x.device).to(x.dtype)
    for span in spans(flat.numel(), CHUNK, x.device):
        of_bytes = slice(span.start // 8, -(-span.stop // 8))
        for bits, sign in ((positive, -factor), (negative, factor)):
            flags = table.index_select(0, bits[of_bytes].int()).view(-1)
            flat[span].add_(flags[: span.stop - span.start], alpha=sign)
            del flags
    return x


class _OneBitReLU(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, inplace, upper):
        if inplace:
            ctx.mark_dirty(x)
        if upper is None:
            y = x.relu_() if inplace else x.relu()
            passes = y
        else:
            y = F.hardtanh(x, 0.0, upper, inplace)
            # Positive only strictly inside the range.
            passes = torch.where(y < upper, y, torch.zeros_like(y))
        ctx.save_for_backward(pack_positive(passes.contiguous()))
        return y

    @staticmethod
    @of_backward
    def backward(ctx, grad):
        (packed,) = ctx.saved_tensors
        return mask_(grad.clone(memory_format=torch.contiguous_format), packed), None, None


def one_bit_relu(x: Tensor, inplace: bool = False, upper: Optional[float] = None) -> Tensor:
    """max(x, 0), or x clamped to 0 to ``upper``; differentiable once. Keeps numel / 8 bytes.

    Args:
        x: Any shape, floating point; not a leaf if ``inplace``.
        inplace: Whether the result overwrites ``x``.
        upper: Upper bound, above 0; None for no bound.
    """
    return _OneBitReLU.apply(x, inplace, upper)
