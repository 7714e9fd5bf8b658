"""The region of a feature map that shows the frame, without the data preprocessor's padding."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple, Optional

from torch import Tensor, nn


class FrameRegion(NamedTuple):
    """The position of the frame in the input of a network.

    Attributes:
        height: Height of the input with its padding, in pixels.
        width: Width of the input with its padding, in pixels.
        rows: (start, stop) of the frame's rows in the input.
        columns: (start, stop) of the frame's columns in the input.
    """

    height: int
    width: int
    rows: tuple[int, int]
    columns: tuple[int, int]

    def slices(self, x: Tensor) -> tuple[slice, slice]:
        """The rows and columns of a map that show the frame.

        The map covers the input evenly, whatever its size. A row of the map belongs to the frame if
        its centre lies in the frame; columns likewise. The result has at least one row and one
        column.

        Args:
            x: (N, C, h, w) of any size.
        """
        rows = _inside(self.rows, self.height, x.shape[2])
        return rows, _inside(self.columns, self.width, x.shape[3])

    def crop(self, x: Tensor) -> Tensor:
        """The part of (N, C, h, w) that shows the frame, as a view."""
        rows, columns = self.slices(x)
        return x[:, :, rows, columns]

    def clear_outside_(self, x: Tensor) -> Tensor:
        """Sets the part of (N, C, h, w) that shows padding to 0, in place; returns x."""
        rows, columns = self.slices(x)
        x[:, :, : rows.start] = 0
        x[:, :, rows.stop :] = 0
        x[:, :, :, : columns.start] = 0
        x[:, :, :, columns.stop :] = 0
        return x


def _inside(frame: tuple[int, int], size: int, cells: int) -> slice:
    """The cells of an axis whose centre lies in the frame, at least one."""
    # Cell i has its centre at (2 i + 1) size / (2 cells). Integer arithmetic makes sure that a map
    # of the input's own size has exactly the frame's rows.
    first, stop = (-(-(2 * edge * cells - size) // (2 * size)) for edge in frame)
    first = min(max(first, 0), cells - 1)
    return slice(first, min(max(stop, first + 1), cells))


def of_frame(x: Tensor, region: Optional[FrameRegion]) -> Tensor:
    """The part of (N, C, h, w) that shows the frame; all of x if there is no padding."""
    return x if region is None else region.crop(x)


@contextmanager
def measuring(module: nn.Module, region: Optional[FrameRegion], window: int = 0) -> Iterator[None]:
    """Context manager in which all layers with statistics leave the padding out of them.

    Each layer stores the region as an attribute. A thread-local variable would not do: autograd's
    backward may run in another thread. Copies of a model in other threads have their own regions.

    Args:
        module: The module. Its layers that compute statistics have an attribute ``region``, which
            is None outside the context.
        region: The region of the input that is not padding; None if there is no padding.
        window: The number of the sliding window, for layers with an attribute ``window``.
    """
    layers = [layer for layer in module.modules() if hasattr(layer, 'region')]
    before = [layer.region for layer in layers]
    for layer in layers:
        layer.region = region
        if hasattr(layer, 'window'):
            layer.window = window
    try:
        yield
    finally:
        for layer, old in zip(layers, before):
            layer.region = old
