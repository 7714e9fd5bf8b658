"""The two backward convolutions of a 3x3 kernel at about a third of the multiplications.

Winograd's minimal filtering F(4x4, 3x3) (Lavin and Gray, arXiv 1509.09308) writes a 3x3
convolution as 36 matrix products over tiles of 6x6. Backward is linear, so here rounding is all
that is lost: with the interpolation points 0, ±3/4, ±4/3 it is 1.5e-6 relative (float32, 512
channels), against 2.4e-7 of the direct sum. In a *forward* the same rounding would move
pre-activations across zero and so change which elements a ReLU lets through; there it is not used.

Letters: N frames, Ci and Co channels, d dilation, m = 4 outputs and n = 6 inputs a tile, T tiles.
"""

from fractions import Fraction
from functools import lru_cache
from typing import Optional

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

_M, _R = 4, 3
_N = _M + _R - 1
_POINTS = [Fraction(p) for p in ('0', '3/4', '-3/4', '4/3', '-4/3')]


def _polynomial(roots: list[Fraction]) -> list[Fraction]:
    """Coefficients of prod (x - root), lowest power first."""
    coefficients = [Fraction(1)]
    for root in roots:
        coefficients = [Fraction(0), *coefficients]
        for power in range(len(coefficients) - 1):
            coefficients[power] -= root * coefficients[power + 1]
    return coefficients


@lru_cache(maxsize=1)
def _matrices() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A^T (m, n), G (n, r) and B^T (n, n): y = A^T [(G g) * (B^T d)] (Toom and Cook).

    Row i of G and of B^T may be scaled against each other; a power of two that makes them alike
    in size costs no rounding and saves some.
    """
    output, kernel, tile = (np.zeros(s) for s in ((_M, _N), (_N, _R), (_N, _N)))
    for i, point in enumerate(_POINTS):
        others = [other for j, other in enumerate(_POINTS) if j != i]
        scale = Fraction(1)
        for other in others:
            scale *= point - other
        kernel[i] = [float(point**k / scale) for k in range(_R)]
        output[:, i] = [float(point**k) for k in range(_M)]
        tile[i, : _N - 1] = [float(c) for c in _polynomial(others)]
    kernel[-1, -1] = output[-1, -1] = 1.0
    tile[-1] = [float(c) for c in _polynomial(_POINTS)]
    for i in range(_N):
        ratio = np.linalg.norm(tile[i]) / np.linalg.norm(kernel[i])
        factor = 2.0 ** np.round(np.log2(np.sqrt(ratio)))
        kernel[i] *= factor
        tile[i] /= factor
    return output, kernel, tile


@lru_cache(maxsize=8)
def _transforms(dtype: torch.dtype, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """The same for two dimensions: (m*m, n*n), (n*n, r*r) and (n*n, n*n)."""
    return tuple(
        torch.tensor(np.kron(matrix, matrix), dtype=dtype, device=device) for matrix in _matrices()
    )


def is_suitable(weight: Tensor, stride, padding, dilation, groups: int) -> bool:
    """Whether these functions apply: 3x3, stride 1, 'same' padding, one group."""
    return (
        tuple(weight.shape[2:]) == (3, 3)
        and groups == 1
        and tuple(stride) == (1, 1)
        and dilation[0] == dilation[1]
        and tuple(padding) == tuple(dilation)
    )


def pays(weight: Tensor) -> bool:
    """Whether they are faster than the direct sum; measured on a CPU with AVX-512."""
    few, many = sorted(weight.shape[:2])
    return weight.device.type in ('cpu', 'meta') and few >= 128 and few * many >= 384 * 384


class _Tiles:
    """The tiles of (N, C, H, W) maps of one size under one dilation.

    A convolution of dilation d is d*d convolutions of dilation 1 on the d*d phases of the map;
    the phases are tiled like frames.
    """

    def __init__(self, frames: int, height: int, width: int, dilation: int) -> None:
        self.size = (frames, height, width)
        self.dilation = dilation
        self.rows = -(-height // (_M * dilation))
        self.columns = -(-width // (_M * dilation))
        self.count = frames * self.rows * self.columns * dilation * dilation

    def overlapping(self, x: Tensor) -> Tensor:
        """(N, C, H, W) with a border of zeros to (n*n, C, T): what convolution tiles read."""
        return self._gather(x, _N, 1)

    def disjoint(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to (m*m, C, T): what convolution tiles write."""
        return self._gather(x, _M, 0)

    def _gather(self, x: Tensor, side: int, border: int) -> Tensor:
        (frames, height, width), d = self.size, self.dilation
        high, wide = (self.rows * _M + 2 * border) * d, (self.columns * _M + 2 * border) * d
        lower, right = high - height - border * d, wide - width - border * d
        if border or lower or right:
            x = F.pad(x, (border * d, right, border * d, lower))
        x = x.contiguous()
        channels = x.shape[1]
        pitch, plane = wide, high * wide
        # Axes: tile row, tile column (of the tile), channel, frame, row, phase, column, phase.
        shape = (side, side, channels, frames, self.rows, d, self.columns, d)
        strides = (
            d * pitch, d, plane, channels * plane, _M * d * pitch, pitch, _M * d, 1,
        )  # fmt: skip
        return x.as_strided(shape, strides).reshape(side * side, channels, self.count)

    def scatter(self, tiles: Tensor) -> Tensor:
        """(m*m, C, T) back to (N, C, H, W)."""
        (frames, height, width), d = self.size, self.dilation
        channels = tiles.shape[1]
        shape = (_M, _M, channels, frames, self.rows, d, self.columns, d)
        # To frame, channel, row of tiles, row in the tile, phase, and the same for columns.
        maps = tiles.view(shape).permute(3, 2, 4, 0, 5, 6, 1, 7)
        maps = maps.reshape(frames, channels, self.rows * _M * d, self.columns * _M * d)
        return maps[:, :, :height, :width]


def _pieces(channels: int, elements_each: int, workspace: int) -> list[slice]:
    """Channels in pieces of at most ``workspace`` elements, by the 64 where there are as many."""
    size = max(16, min(channels, workspace // max(1, elements_each)))
    if size < channels and size > 64:
        size -= size % 64
    return [slice(start, start + size) for start in range(0, channels, size)]


def winograd_input_gradient(
    grad: Tensor,
    weight: Tensor,
    dilation: int = 1,
    into: Optional[Tensor] = None,
    workspace: int = 2**22,
) -> Tensor:
    """The gradient of a 3x3 'same' convolution with respect to its input.

    Args:
        grad: (N, Co, H, W), with respect to the output.
        weight: (Co, Ci, 3, 3).
        dilation: d.
        into: (N, Ci, H, W) to add the gradient to; None makes a new tensor.
        workspace: Elements that one of the three temporaries may have; less of it means more
            passes, and no other result.

    Returns:
        (N, Ci, H, W).
    """
    out_channels, in_channels = weight.shape[:2]
    tiles = _Tiles(grad.shape[0], *grad.shape[2:], dilation)
    to_output, to_kernel, to_tile = _transforms(grad.dtype, grad.device)
    into_given = into is not None
    if into is None:
        into = grad.new_zeros(grad.shape[0], in_channels, *grad.shape[2:])
    whole = _N * _N * out_channels * tiles.count <= workspace
    outer = _pieces(out_channels, _N * _N * tiles.count, workspace)
    for o in outer:
        reads = tiles.overlapping(grad[:, o])
        count = reads.shape[1]
        values = (to_tile @ reads.view(_N * _N, -1)).view(_N * _N, count, tiles.count)
        del reads
        for i in _pieces(in_channels, _N * _N * max(count, tiles.count), workspace):
            # The transposed convolution: the kernel turned around, channels exchanged.
            kernel = weight[o, i].flip(2, 3).reshape(-1, _R * _R).t()
            kernel = (to_kernel @ kernel).view(_N * _N, count, -1)
            product = torch.bmm(kernel.transpose(1, 2), values)
            del kernel
            written = to_output @ product.view(_N * _N, -1)
            channels = product.shape[1]
            del product
            result = tiles.scatter(written.view(_M * _M, channels, tiles.count))
            del written
            if whole and not into_given:
                into[:, i] = result
            else:
                into[:, i] += result
            del result
        del values
    return into


def winograd_weight_gradient(
    x: Tensor, grad: Tensor, dilation: int = 1, workspace: int = 2**22
) -> Tensor:
    """The gradient of a 3x3 'same' convolution with respect to its kernel.

    Args:
        x: (N, Ci, H, W), the input.
        grad: (N, Co, H, W), with respect to the output.
        dilation: d.
        workspace: See ``winograd_input_gradient``.

    Returns:
        (Co, Ci, 3, 3).
    """
    in_channels, out_channels = x.shape[1], grad.shape[1]
    tiles = _Tiles(x.shape[0], *x.shape[2:], dilation)
    to_output, to_kernel, to_tile = _transforms(grad.dtype, grad.device)
    gradient = grad.new_empty(out_channels, in_channels, _R, _R)
    for i in _pieces(in_channels, _N * _N * tiles.count, workspace):
        reads = tiles.overlapping(x[:, i])
        count = reads.shape[1]
        values = (to_tile @ reads.view(_N * _N, -1)).view(_N * _N, count, tiles.count)
        del reads
        for o in _pieces(out_channels, _N * _N * max(count, tiles.count), workspace):
            written = tiles.disjoint(grad[:, o])
            outputs = (to_output.t() @ written.view(_M * _M, -1)).view(
                _N * _N, written.shape[1], tiles.count
            )
            del written
            product = torch.bmm(outputs, values.transpose(1, 2))
            del outputs
            kernel = to_kernel.t() @ product.view(_N * _N, -1)
            del product
            gradient[o, i] = kernel.t().reshape(-1, count, _R, _R)
            del kernel
        del values
    return gradient
