"""Which part of a feature map is the frame: what a data preprocessor padded is no measurement."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple, Optional

from torch import Tensor, nn


class FrameRegion(NamedTuple):
    """The frame's place in the input of a network.

    Attributes:
        height: Of the input with its padding, in pixels.
        width: Likewise.
        rows: (start, stop) of the frame's rows in the input.
        columns: (start, stop) of the frame's columns in the input.
    """

    height: int
    width: int
    rows: tuple[int, int]
    columns: tuple[int, int]

    def slices(self, x: Tensor) -> tuple[slice, slice]:
        """The rows and columns of a map that show the frame.

        A row of the map counts if the row's centre lies in the frame; the map covers the input
        evenly, whatever the map's size. At least one row and one column count.

        Args:
            x: (N, C, h, w) of any size.
        """
        rows = _inside(self.rows, self.height, x.shape[2])
        return rows, _inside(self.columns, self.width, x.shape[3])

    def crop(self, x: Tensor) -> Tensor:
        """The part of (N, C, h, w) that shows the frame: a view."""
        rows, columns = self.slices(x)
        return x[:, :, rows, columns]

    def clear_outside_(self, x: Tensor) -> Tensor:
        """Sets the part of (N, C, h, w) that shows padding to 0, in place; gives x back."""
        rows, columns = self.slices(x)
        x[:, :, : rows.start] = 0
        x[:, :, rows.stop :] = 0
        x[:, :, :, : columns.start] = 0
        x[:, :, :, columns.stop :] = 0
        return x


def _inside(frame: tuple[int, int], size: int, cells: int) -> slice:
    """The cells of an axis whose centre lies in the frame, at least one."""
    # Cell i has its centre at (2 i + 1) size / (2 cells); whole numbers alone, so that a map of
    # the input's own size has exactly the frame's rows.
    first, stop = (-(-(2 * edge * cells - size) // (2 * size)) for edge in frame)
    first = min(max(first, 0), cells - 1)
    return slice(first, min(max(stop, first + 1), cells))


def of_frame(x: Tensor, region: Optional[FrameRegion]) -> Tensor:
    """The part of (N, C, h, w) that shows the frame; all of x if there is no padding."""
    return x if region is None else region.crop(x)


@contextmanager
def measuring(module: nn.Module, region: Optional[FrameRegion]) -> Iterator[None]:
    """Inside, all layers below a module that measure their maps measure the frame alone.

    The region is written to the layers, and not to a variable of the thread: a model's copies in
    other threads have regions of their own, and autograd's threads find the right one.

    Args:
        module: Layers that measure have an attribute ``region``, None outside.
        region: None if the input has no padding.
    """
    layers = [layer for layer in module.modules() if hasattr(layer, 'region')]
    before = [layer.region for layer in layers]
    for layer in layers:
        layer.region = region
    try:
        yield
    finally:
        for layer, old in zip(layers, before):
            layer.region = old
