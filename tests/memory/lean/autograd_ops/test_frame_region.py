"""Which rows and columns of a map are the frame's, against centres counted one by one."""

import pytest
import torch
from torch import nn

from ecotta_seg.memory.lean.autograd_ops.frame_region import FrameRegion, measuring, of_frame


def _expected(frame, size, cells):
    """Cells whose centre lies in the frame, in floating-point numbers."""
    inside = [i for i in range(cells) if frame[0] <= (i + 0.5) * size / cells < frame[1]]
    return inside[0], inside[-1] + 1


@pytest.mark.parametrize('cells', [384, 192, 96, 48, 24, 12, 7, 3, 768])
@pytest.mark.parametrize('frame', [(0, 360), (0, 361), (0, 384), (24, 384), (11, 300)])
def test_cells_whose_centre_lies_in_the_frame(frame, cells):
    region = FrameRegion(384, 480, frame, (0, 480))
    rows, columns = region.slices(torch.empty(1, 2, cells, 30))
    assert (rows.start, rows.stop) == _expected(frame, 384, cells)
    assert (columns.start, columns.stop) == (0, 30)


def test_at_least_one_row_and_one_column():
    for rows, columns in (((0, 3), (0, 2)), ((90, 96), (60, 64)), ((40, 41), (30, 31))):
        region = FrameRegion(96, 64, rows, columns)
        for shape in ((1, 1), (2, 3), (5, 1)):
            assert region.crop(torch.empty(1, 2, *shape)).shape == (1, 2, 1, 1)


def test_what_is_outside_is_cleared():
    region = FrameRegion(8, 10, (2, 7), (1, 6))
    x = region.clear_outside_(torch.ones(1, 2, 8, 10))
    assert x.sum() == 2 * 5 * 5 and region.crop(x).min() == 1
    assert of_frame(x, None) is x


def test_layers_have_a_region_inside_alone():
    class Layer(nn.Module):
        region = None

    model = nn.Sequential(Layer(), nn.ReLU(), nn.Sequential(Layer()))
    outer, inner = FrameRegion(8, 8, (0, 6), (0, 8)), FrameRegion(4, 4, (0, 3), (0, 4))
    with pytest.raises(KeyError), measuring(model, outer):
        with measuring(model, inner):
            assert model[0].region == model[2][0].region == inner
        with measuring(model, None):
            assert model[0].region is None
        assert model[2][0].region == outer and not hasattr(model[1], 'region')
        raise KeyError
    assert model[0].region is None
