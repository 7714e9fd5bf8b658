"""A mask over its frame, and a legend that stays."""

import numpy as np

from ecotta_seg.visualization.condition_panel import condition_panel
from ecotta_seg.visualization.overlay import overlay_panel

CLASSES, PALETTE = ['road', 'sky', 'car'], [[200, 0, 0], [0, 200, 0], [0, 0, 200]]
FRAME = np.full((40, 60, 3), 100, np.uint8)


def mask_of(*ids):
    """Vertical stripes of classes."""
    return np.repeat(np.array(ids), 60 // len(ids))[None].repeat(40, 0)


def test_colours_are_mixed_with_the_frame():
    panel = overlay_panel(FRAME, mask_of(0, 1, 255), CLASSES, PALETTE, width=60, opacity=0.25)
    found = {tuple(colour) for colour in panel.reshape(-1, 3).tolist()}
    assert {(125, 75, 75), (75, 125, 75), (100, 100, 100)} <= found
    rows, columns = np.nonzero((panel == (125, 75, 75)).all(-1))
    # The picture keeps its size and its place.
    assert (np.ptp(rows) + 1, np.ptp(columns) + 1) == (40, 20)


def test_a_legend_stays_whatever_occurs():
    panels, legends = [], []
    for mask in (mask_of(0), mask_of(0, 1, 2), mask_of(2, 1)):
        for draw in (
            lambda **o: overlay_panel(FRAME, mask, CLASSES, PALETTE, width=60, **o),  # noqa: B023
            lambda **o: condition_panel(FRAME, [('a', mask)], CLASSES, PALETTE, width=60, **o),  # noqa: B023
        ):
            panels.append(draw(legend=[0, 1, 2]))
            legends.append(panels[-1][-80:])
    for first in (0, 1):
        assert len({panel.shape for panel in panels[first::2]}) == 1
        # The rows below the pictures are the same.
        height = len(panels[first]) - 40 - 60
        bottoms = [panel[-height // 2 :] for panel in panels[first::2]]
        assert all(np.array_equal(bottoms[0], bottom) for bottom in bottoms)
    own = [overlay_panel(FRAME, mask, CLASSES, PALETTE, width=60).shape for mask in (
        mask_of(0), mask_of(0, 1, 2),
    )]  # fmt: skip
    assert own[0] != own[1], 'without it the legend has the classes that occur'
