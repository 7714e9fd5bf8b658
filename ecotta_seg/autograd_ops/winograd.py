"""3x3 convolutions, forward and both ways backward, at a quarter of the multiplications.

Winograd's minimal filtering F(4x4, 3x3) (Lavin and Gray, arXiv 1509.09308) writes a 3x3
convolution as 36 matrix products over tiles of 6x6. Backward is linear, so here rounding is all
that is lost: with the interpolation points 0, ±3/4, ±4/3 it is 1.5e-6 relative (float32, 512
channels), against 2.4e-7 of the direct sum. In the forward of a *frozen* layer the same rounding
would move pre-activations across zero, and other elements than the source's would pass its ReLUs;
there it is not used. The meta networks' convolutions are nobody's but ours.

Letters: N frames, Ci and Co channels, d dilation, m = 4 outputs and n = 6 inputs a tile, T tiles.
"""

from fractions import Fraction
from functools import lru_cache
from typing import Callable, Optional

import numpy as np
import torch
from torch import Tensor

from .spans import spans

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
    the phases are tiled like frames. Tiles are (T, C): with the channels side by side, cutting
    them out copies whole rows.
    """

    def __init__(self, frames: int, height: int, width: int, dilation: int) -> None:
        self.size = (frames, height, width)
        self.dilation = dilation
        self.rows = -(-height // (_M * dilation))
        self.columns = -(-width // (_M * dilation))
        self.count = frames * self.rows * self.columns * dilation * dilation

    def _axes(self, side: int) -> tuple[int, ...]:
        """Row and column in the tile, frame, row of tiles, phase, and the same of columns."""
        d = self.dilation
        return side, side, self.size[0], self.rows, d, self.columns, d

    def overlapping(self, x: Tensor, scratch: '_Scratch') -> Tensor:
        """(N, C, H, W) with a border of zeros to (n*n, T*C): what convolution tiles read."""
        return self._gather(x, _N, 1, scratch)

    def disjoint(self, x: Tensor, scratch: '_Scratch') -> Tensor:
        """(N, C, H, W) to (m*m, T*C): what convolution tiles write."""
        return self._gather(x, _M, 0, scratch)

    def _gather(self, x: Tensor, side: int, border: int, scratch: '_Scratch') -> Tensor:
        (frames, height, width), d, channels = self.size, self.dilation, x.shape[1]
        high, wide = (self.rows * _M + 2 * border) * d, (self.columns * _M + 2 * border) * d
        # Both under names of memory that has no other use while tiles are cut out.
        padded = scratch.take('kernel', frames, high, wide, channels).zero_()
        inner = padded[:, border * d :, border * d :][:, :height, :width]
        turned = scratch.take('values', height * width, channels)
        for frame in range(frames):
            # torch copies a transposed matrix twice as fast as a permuted map.
            turned.copy_(x[frame].reshape(channels, -1).t())
            inner[frame] = turned.view(height, width, channels)
        row, column = wide * channels, channels
        strides = (
            d * row, d * column, high * row, _M * d * row, row, _M * d * column, column, 1,
        )  # fmt: skip
        cut = padded.as_strided((*self._axes(side), channels), strides)
        tiles = scratch.take('reads', *cut.shape)
        tiles.copy_(cut)
        return tiles.view(side * side, -1)

    def scatter(self, tiles: Tensor) -> Tensor:
        """(m*m, T*C) back to (N, C, H, W), a view of new memory."""
        frames, height, width = self.size
        # To frame, row of tiles, row in the tile, phase, the same of columns, channel.
        maps = tiles.view(*self._axes(_M), -1).permute(2, 3, 0, 4, 5, 1, 6, 7)
        maps = maps.reshape(
            frames, self.rows * _M * self.dilation, self.columns * _M * self.dilation, -1
        )
        return maps[:, :height, :width].permute(0, 3, 1, 2)


class _Scratch:
    """Memory that is used again from piece to piece: fresh pages cost as much as the copying."""

    def __init__(self, like: Tensor) -> None:
        self._like = like
        self._memory: dict[str, Tensor] = {}

    def take(self, name: str, *shape: int) -> Tensor:
        """Memory of a shape; what was there under the name is lost."""
        count = 1
        for side in shape:
            count *= side
        if name not in self._memory or self._memory[name].numel() < count:
            self._memory.pop(name, None)
            self._memory[name] = self._like.new_empty(count)
        return self._memory[name][:count].view(shape)


def _pieces(channels: int, elements_each: int, workspace: int, x: Tensor) -> list[slice]:
    """Channels in pieces of at most ``workspace`` elements, by the 64 where there are as many."""
    size = max(16, min(channels, workspace // max(1, elements_each)))
    if size < channels and size > 64:
        size -= size % 64
    return spans(channels, size, x.device)


def winograd_conv2d(x: Tensor, weight: Tensor, dilation: int = 1, workspace: int = 2**22) -> Tensor:
    """A 3x3 'same' convolution.

    Its rounding differs from the direct sum's, so it is no substitute where the very bits of a
    trained layer are wanted.

    Args:
        x: (N, Ci, H, W).
        weight: (Co, Ci, 3, 3).
        dilation: d.
        workspace: See ``winograd_input_gradient``.

    Returns:
        (N, Co, H, W).
    """
    return _convolve(
        x, lambda i, o: weight[o, i].transpose(0, 1), weight.shape[0], dilation, None, workspace
    )


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
            passes, and another order of summation.

    Returns:
        (N, Ci, H, W).
    """
    # The transposed convolution: channels exchanged, the kernel turned around.
    return _convolve(
        grad, lambda o, i: weight[o, i].flip(2, 3), weight.shape[1], dilation, into, workspace
    )


def _convolve(
    x: Tensor,
    kernels: Callable[[slice, slice], Tensor],
    out_channels: int,
    dilation: int,
    into: Optional[Tensor],
    workspace: int,
) -> Tensor:
    """Convolves (N, C, H, W) by ``kernels``, (pieces of C, of the output's channels) to a
    (C', C'', 3, 3)."""
    tiles = _Tiles(x.shape[0], *x.shape[2:], dilation)
    to_output, to_kernel, to_tile = _transforms(x.dtype, x.device)
    scratch, each = _Scratch(x), _N * _N
    fresh = into is None
    if fresh:
        into = x.new_empty(x.shape[0], out_channels, *x.shape[2:])
    for read in _pieces(x.shape[1], each * tiles.count, workspace, x):
        reads = tiles.overlapping(x[:, read], scratch)
        values = torch.mm(to_tile, reads, out=scratch.take('values', *reads.shape))
        values = values.view(each, tiles.count, -1)
        count = values.shape[2]
        for write in _pieces(out_channels, each * max(count, tiles.count), workspace, x):
            kernel = kernels(read, write).reshape(-1, _R * _R).t()
            kernel = torch.mm(
                to_kernel, kernel, out=scratch.take('kernel', each, kernel.shape[1])
            ).view(each, count, -1)
            # What was read has been used.
            product = scratch.take('reads', each, tiles.count, kernel.shape[2])
            torch.bmm(values, kernel, out=product)
            written = scratch.take('kernel', _M * _M, product[0].numel())
            torch.mm(to_output, product.view(each, -1), out=written)
            if fresh:
                into[:, write] = tiles.scatter(written)
            else:
                into[:, write] += tiles.scatter(written)
        fresh = False
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
    scratch, each = _Scratch(grad), _N * _N
    gradient = grad.new_empty(out_channels, in_channels, _R, _R)
    for o in _pieces(out_channels, each * tiles.count, workspace, x):
        written = tiles.disjoint(grad[:, o], scratch)
        outputs = scratch.take('outputs', each, written.shape[1])
        torch.mm(to_output.t(), written, out=outputs)
        outputs = outputs.view(each, tiles.count, -1).transpose(1, 2)
        for i in _pieces(in_channels, each * max(outputs.shape[1], tiles.count), workspace, x):
            reads = tiles.overlapping(x[:, i], scratch)
            values = torch.mm(to_tile, reads, out=scratch.take('values', *reads.shape))
            values = values.view(each, tiles.count, -1)
            product = scratch.take('reads', each, outputs.shape[1], values.shape[2])
            torch.bmm(outputs, values, out=product)
            kernel = to_kernel.t() @ product.view(each, -1)
            gradient[o, i] = kernel.t().reshape(-1, values.shape[2], _R, _R)
            del kernel
    return gradient


class _WinogradConv2d(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, weight):
        ctx.save_for_backward(x, weight)
        return winograd_conv2d(x, weight)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad):
        x, weight = ctx.saved_tensors
        grad = grad.contiguous()
        wanted = ctx.needs_input_grad
        of_x = winograd_input_gradient(grad, weight) if wanted[0] else None
        of_weight = winograd_weight_gradient(x, grad) if wanted[1] else None
        return of_x, of_weight


def conv3x3(x: Tensor, weight: Tensor) -> Tensor:
    """``winograd_conv2d`` of dilation 1, differentiable once; keeps its inputs.

    Args:
        x: (N, Ci, H, W).
        weight: (Co, Ci, 3, 3).
    """
    return _WinogradConv2d.apply(x, weight)
