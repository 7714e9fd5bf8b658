"""Winograd's transforms: they cut maps into overlapping tiles and assemble tiles to maps.

Letters: N frames, C channels, d dilation, m = 4 outputs and n = 6 inputs per tile side, T tiles,
r = 3 the kernel's side.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from .spans import spans

# Outputs and inputs along a side of a tile, and the kernel's side.
OUTPUTS, KERNEL = 4, 3
INPUTS = OUTPUTS + KERNEL - 1
# Elements of the tiles that one step cuts out; they stay in the cache.
_CHUNK = 2**20
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

    Row i of G may be multiplied by a factor if row i of B^T is divided by it. A power of two that
    makes the rows similar in size causes no rounding error itself and reduces the total one.
    """
    output, kernel, tile = (
        np.zeros(s) for s in ((OUTPUTS, INPUTS), (INPUTS, KERNEL), (INPUTS, INPUTS))
    )
    for i, point in enumerate(_POINTS):
        others = [other for j, other in enumerate(_POINTS) if j != i]
        scale = Fraction(1)
        for other in others:
            scale *= point - other
        kernel[i] = [float(point**k / scale) for k in range(KERNEL)]
        output[:, i] = [float(point**k) for k in range(OUTPUTS)]
        tile[i, : INPUTS - 1] = [float(c) for c in _polynomial(others)]
    kernel[-1, -1] = output[-1, -1] = 1.0
    tile[-1] = [float(c) for c in _polynomial(_POINTS)]
    for i in range(INPUTS):
        ratio = np.linalg.norm(tile[i]) / np.linalg.norm(kernel[i])
        factor = 2.0 ** np.round(np.log2(np.sqrt(ratio)))
        kernel[i] *= factor
        tile[i] /= factor
    return output, kernel, tile


@lru_cache(maxsize=8)
def transforms(dtype: torch.dtype, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """The matrices for two dimensions: (m*m, n*n), (n*n, r*r) and (n*n, n*n)."""
    return tuple(
        torch.tensor(np.kron(matrix, matrix), dtype=dtype, device=device) for matrix in _matrices()
    )


_shared = threading.local()


@contextmanager
def shared_scratch() -> Iterator[None]:
    """Context manager in which this thread's convolutions share one set of temporaries.

    Without it, the system allocates temporaries above 32 MiB again for each call, and the first
    access to their pages takes as long as the computation. The temporaries are freed at exit.
    """
    _shared.memory = {}
    try:
        yield
    finally:
        del _shared.memory


class Scratch:
    """Memory that is reused between pieces, and inside ``shared_scratch`` between convolutions."""

    def __init__(self, like: Tensor) -> None:
        self._like = like
        self._memory: dict = getattr(_shared, 'memory', {})

    def take(self, name: str, *shape: int, zeros: bool = False) -> Tensor:
        """Memory of a shape; it may still contain the values of the last use of this name.

        Args:
            name: Name of the memory.
            shape: Shape of the result.
            zeros: Whether new memory is filled with zeros. Later writes must not change the
                elements that have to stay zero.
        """
        count = 1
        for side in shape:
            count *= side
        # The zeros between the written values stay valid only if the layout is the same.
        key = (name, shape[1:] if zeros else None, self._like.dtype, self._like.device)
        if key not in self._memory or self._memory[key].numel() < count:
            self._memory.pop(key, None)
            self._memory[key] = self._like.new_empty(count)
            if zeros:
                self._memory[key].zero_()
        return self._memory[key][:count].view(shape)


class Tiles:
    """The tiles of (N, C, H, W) maps of one size and one dilation.

    A convolution of dilation d equals d*d convolutions of dilation 1 on the d*d phases of the map;
    the phases are tiled like frames. Tiles are (C, n*n, T). Each channel is therefore cut out,
    transformed and assembled in the cache, and a matrix product over channels finds each of the
    n*n positions as a matrix (C, T) without a copy.

    Args:
        frames, height, width: N, H, W.
        dilation: d.
    """

    def __init__(self, frames: int, height: int, width: int, dilation: int) -> None:
        self.size = (frames, height, width)
        self.dilation = dilation
        self.rows = -(-height // (OUTPUTS * dilation))
        self.columns = -(-width // (OUTPUTS * dilation))
        self.count = frames * self.rows * self.columns * dilation * dilation

    def _axes(self, side: int) -> tuple[int, ...]:
        """Row and column in the tile, frame, phase of rows and columns, row and column of tiles."""
        d = self.dilation
        return side, side, self.size[0], d, d, self.rows, self.columns

    def _phases(self) -> list[tuple[int, int]]:
        return [(i, j) for i in range(self.dilation) for j in range(self.dilation)]

    def _chunks(self, channels: int, device: torch.device) -> tuple[slice, ...]:
        return spans(channels, _CHUNK // (INPUTS * INPUTS * self.count), device)

    def transformed(
        self, x: Tensor, matrix: Tensor, scratch: Scratch, name: str, overlap: bool
    ) -> Tensor:
        """Cuts maps into tiles and multiplies each tile by a matrix.

        Args:
            x: (N, C, H, W).
            matrix: (n*n, n*n), or (n*n, m*m) without overlap.
            scratch: Holds the result.
            name: Name of the result in ``scratch``.
            overlap: True for the n*n tiles with a zero border that a convolution reads; False for
                the adjacent m*m tiles that a convolution writes.

        Returns:
            (C, n*n, T).
        """
        channels = x.shape[1]
        values = scratch.take(name, channels, INPUTS * INPUTS, self.count)
        for c in self._chunks(channels, x.device):
            tiles = self._cut(x[:, c], overlap, scratch)
            torch.bmm(matrix.expand(tiles.shape[0], *matrix.shape), tiles, out=values[c])
        return values

    def _cut(self, x: Tensor, overlap: bool, scratch: Scratch) -> Tensor:
        side, border = (INPUTS, 1) if overlap else (OUTPUTS, 0)
        frames, d, channels = self.size[0], self.dilation, x.shape[1]
        high, wide = self.rows * OUTPUTS + 2 * border, self.columns * OUTPUTS + 2 * border
        # Channels first, so that a shorter chunk has the same layout and the zeros stay valid.
        padded = scratch.take(f'padded {side}', channels, frames, d, d, high, wide, zeros=True)
        for i, j in self._phases():
            phase = x[:, :, i::d, j::d].transpose(0, 1)
            inner = padded[:, :, i, j, border:, border:]
            inner[:, :, : phase.shape[2], : phase.shape[3]] = phase
        # The axes of ``_axes``, with the channels before them.
        strides = (
            frames * d * d * high * wide, wide, 1, d * d * high * wide, d * high * wide,
            high * wide, OUTPUTS * wide, OUTPUTS,
        )  # fmt: skip
        cut = padded.as_strided((channels, *self._axes(side)), strides)
        tiles = scratch.take('tiles', *cut.shape)
        tiles.copy_(cut)
        return tiles.view(channels, side * side, -1)

    def put(
        self, product: Tensor, matrix: Tensor, into: Tensor, fresh: bool, scratch: Scratch
    ) -> None:
        """Transforms products back and assembles the tiles to a map.

        Args:
            product: (n*n, C, T).
            matrix: (m*m, n*n).
            into: (N, C, H, W), may be a view.
            fresh: True overwrites ``into``; False adds to it.
            scratch: Memory for temporaries.
        """
        d = self.dilation
        for c in self._chunks(product.shape[1], product.device):
            part = product[:, c].permute(1, 0, 2)
            tiles = scratch.take('tiles', part.shape[0], OUTPUTS * OUTPUTS, self.count)
            torch.bmm(matrix.expand(part.shape[0], *matrix.shape), part, out=tiles)
            tiles = tiles.view(-1, *self._axes(OUTPUTS))
            for i, j in self._phases():
                # To frame, channel, row of tiles, row in the tile, column of tiles, column in it.
                maps = tiles[:, :, :, :, i, j].permute(3, 0, 4, 1, 5, 2)
                target = into[:, c, i::d, j::d]
                if target.shape[2] * target.shape[3] == OUTPUTS**2 * self.rows * self.columns:
                    target = target.view(maps.shape)
                else:
                    maps = maps.reshape(*target.shape[:2], self.rows * OUTPUTS, -1)
                    maps = maps[:, :, : target.shape[2], : target.shape[3]]
                target.copy_(maps) if fresh else target.add_(maps)
