"""Shows the panels of ``PanelHook`` in the viewer of the config's visualizer."""

from typing import Any

import numpy as np

from ..methods.frame_life import Turn
from ..names.file_names import safe_file_name
from .panel_hook import PanelHook


class LivePanelHook(PanelHook):
    """Sends panels to the Runner's visualizer as ``panel_<condition>`` and writes no file.

    The step of a panel is the number of its frame, from 1, over all rounds.

    Args:
        owner: The ``LiveViewHook`` that counts the frames and sends the panels.
        **kwargs: Arguments of ``PanelHook``.
    """

    priority = Turn.PANEL

    def __init__(self, owner: Any, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.owner = owner

    def _put(
        self, runner: Any, condition: str, number: int, frame: str, index: int, panel: np.ndarray
    ) -> None:
        step = self.owner.step_of(index)
        # No slash: LocalVisBackend uses the name as a file name.
        name = f'panel_{safe_file_name(condition)}'
        self.owner.send(runner, lambda: runner.visualizer.add_image(name, panel, step))
