"""Multiplies each pixel of a map by a matrix, for forward and backward of a 1x1 convolution."""

from functools import lru_cache
from typing import Optional

import torch
from torch import Tensor

from .spans import spans

# Pixels per call of torch's own product; longer rows are slower.
_PIXELS = 1024
# Minimum channels per call of oneDNN's product; fewer are slower.
_ROWS = 128
Pair = tuple[int, int]
_OPERATOR = '_linear_pointwise'


def product_over_pixels(
    kernel: Tensor, x: Tensor, into: Optional[Tensor] = None, workspace: int = 2**22
) -> Tensor:
    """Multiplies each pixel of a map (N, B, H, W) by a matrix (A, B).

    On a CPU, oneDNN's matrix product runs, which torch uses for compiled models. It is faster than
    a 1x1 convolution and than torch's own product. Torch's own product runs in float64, or if
    torch was built without oneDNN.

    Args:
        kernel: (A, B), of any strides.
        x: (N, B, H, W); copied if not contiguous.
        into: (N, A, H, W), contiguous: the result is added to it; None creates a new tensor.
        workspace: Elements of a temporary, if ``into`` is given or there are several frames. At
            least 128 channels are always processed at once.

    Returns:
        (N, A, H, W); ``into`` if given.
    """
    onednn, shape = has_onednn(x), (kernel.shape[0], *x.shape[2:])
    flat = x.contiguous().flatten(2)
    fresh = into is None
    if fresh and onednn and x.shape[0] == 1:
        return _by_onednn(kernel, flat[0]).view(1, *shape)
    if fresh:
        into = x.new_empty(x.shape[0], *shape)
    for total, part in zip(into.view(*into.shape[:2], -1), flat):
        if onednn:
            _put_by_rows(kernel, part, total, fresh, workspace)
        else:
            _put_by_pixels(kernel, part, total, fresh)
    return into


def _put_by_rows(a: Tensor, b: Tensor, total: Tensor, fresh: bool, workspace: int) -> None:
    for rows in spans(a.shape[0], max(_ROWS, workspace // max(1, b.shape[1])), a.device):
        result = _by_onednn(a[rows], b)
        total[rows].copy_(result) if fresh else total[rows].add_(result)
        del result


def _put_by_pixels(a: Tensor, b: Tensor, total: Tensor, fresh: bool) -> None:
    size = b.shape[1] if b.device.type == 'cuda' else _PIXELS
    for pixels in spans(b.shape[1], size, b.device):
        if fresh:
            torch.mm(a, b[:, pixels], out=total[:, pixels])
        else:
            # Adds in place, without a second tensor of the result's size.
            total[:, pixels].addmm_(a, b[:, pixels])


@lru_cache(maxsize=1024)
def is_pointwise(shape: torch.Size, stride: Pair, padding: Pair, groups: int) -> bool:
    """Whether a convolution is a product over pixels: 1x1, stride 1, no padding, one group.

    Args:
        shape: (Co, Ci / groups, kh, kw), the shape of the kernel.
        stride, padding: Stride and padding of the convolution.
        groups: Number of channel groups.
    """
    return tuple(shape[2:]) == stride == (1, 1) and padding == (0, 0) and groups == 1


def has_onednn(x: Tensor) -> bool:
    """Whether oneDNN's product is available for a tensor of this device and dtype.

    The ``meta`` device, on which steps are planned, counts as a CPU.
    """
    if x.device.type not in ('cpu', 'meta') or x.dtype != torch.float32:
        return False
    backend = torch.backends.mkldnn
    # Torch's compiler calls this operator; no public function does so for float32 maps.
    return backend.enabled and backend.is_available() and hasattr(torch.ops.mkldnn, _OPERATOR)


def _by_onednn(a: Tensor, b: Tensor) -> Tensor:
    """Multiplies (A, B) by (B, P). If ``b`` is not contiguous, the product is extremely slow."""
    a = a.contiguous()
    if a.device.type == 'meta':
        return torch.mm(a, b)
    return getattr(torch.ops.mkldnn, _OPERATOR)(a, b.t(), None, 'none', [], '')
