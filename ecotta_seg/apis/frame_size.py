"""The input size of a model for a camera's frames."""

from collections.abc import Sequence
from typing import Any, Union

from mmcv.transforms import BaseTransform
from mmseg.registry import TRANSFORMS

from ..names.type_names import type_name

FrameSize = Union[None, str, Sequence[int]]
_RESIZES = ('Resize', 'ResizeShortestEdge')


@TRANSFORMS.register_module(force=True)
class ResizeLargerFrames(BaseTransform):
    """Resizes only frames that a transform makes smaller.

    Args:
        resize: Config of the transform, such as mmseg's ``Resize``.
    """

    def __init__(self, resize: dict) -> None:
        self.resize = TRANSFORMS.build(dict(resize))
        self._shrinks: dict[tuple, bool] = {}

    def transform(self, results: dict) -> dict:
        """Resizes ``results['img']``.

        Args:
            results: Holds ``img`` (H, W, C) uint8 and ``img_shape`` (H, W).

        Returns:
            The results of the transform if it makes ``img`` smaller, else ``results``.
        """
        size = results['img'].shape[:2]
        if self._shrinks.get(size, True):
            resized = self.resize(dict(results))
            pixels = resized['img'].shape[0] * resized['img'].shape[1]
            self._shrinks[size] = pixels < size[0] * size[1]
            if self._shrinks[size]:
                return resized
        return results

    def __repr__(self) -> str:
        return f'{type(self).__name__}({self.resize})'


def check_size(size: Any) -> None:
    """Refuses an invalid size.

    Raises:
        ValueError: ``sized_steps`` does not accept ``size``.
    """
    if size is None or size in ('frame', 'config'):
        return
    whole = isinstance(size, (list, tuple)) and len(size) == 2
    if not whole or any(type(side) is not int or side < 1 for side in size):
        raise ValueError(
            "expected size to be None, 'frame', 'config' or two whole numbers (height, width) from "
            f'1, got {size!r}'
        )


def sized_steps(steps: Sequence[dict], size: FrameSize) -> list[dict]:
    """Returns a pipeline's steps, with the resizing that is wanted for frames of a camera.

    Args:
        steps: The config's steps.
        size: None: frames are resized as in the config, but never enlarged. ``'config'``: all
            frames are resized as in the config. ``'frame'``: no frame is resized. (height, width):
            frames are resized to fit into this size and keep their aspect ratio.

    Returns:
        The steps.
    """
    resizes = [type_name(step) in _RESIZES for step in steps]
    if size == 'config':
        return list(steps)
    if size is None:
        return [
            dict(type='ResizeLargerFrames', resize=dict(step)) if resize else step
            for step, resize in zip(steps, resizes)
        ]
    kept = [step for step, resize in zip(steps, resizes) if not resize]
    if size == 'frame':
        return kept
    own = dict(type='Resize', scale=(size[1], size[0]), keep_ratio=True)
    place = resizes.index(True) if any(resizes) else min(1, len(kept))
    return [*kept[:place], own, *kept[place:]]
