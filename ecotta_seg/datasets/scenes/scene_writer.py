"""Writes procedural driving scenes to disk, in Cityscapes' or ACDC's layout."""

import shutil
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Union

from ...files.png_file import atomic_write_png
from ..weather.adverse_writer import AdverseWriter
from .driving_scenes import SIZE, draw_scene

# Seeds of the splits must not overlap, so that no test scene is in a training set.
FIRST_SEED = {'train': 0, 'val': 100_000, 'test': 200_000}
_TOWN = 'scenetown'


def write_cityscapes_layout(
    root: Union[str, Path], frames: Mapping[str, int], size: tuple[int, int] = SIZE
) -> Iterator[str]:
    """Writes ``leftImg8bit/<split>/scenetown/*.png`` and their train-id labels in ``gtFine``.

    Args:
        root: Folder to write to.
        frames: Number of scenes per split: 'train', 'val' or 'test'.
        size: (width, height).

    Yields:
        The name of each frame, after its image and label are on disk.

    Raises:
        ValueError: A split is unknown or has fewer than one frame.
    """
    for split, number in frames.items():
        if split not in FIRST_SEED or number < 1:
            raise ValueError(
                f'expected splits from {sorted(FIRST_SEED)} with at least one frame, '
                f'got {split!r} with {number}'
            )
    for split, number in frames.items():
        for index in range(number):
            image, label = draw_scene(FIRST_SEED[split] + index, size)
            name = f'{_TOWN}_{index:06d}_000000'
            folder = Path(split) / _TOWN
            atomic_write_png(
                Path(root) / 'leftImg8bit' / folder / f'{name}_leftImg8bit.png', image, 9
            )
            atomic_write_png(
                Path(root) / 'gtFine' / folder / f'{name}_gtFine_labelTrainIds.png', label, 9
            )
            yield name


def write_acdc_layout(
    root: Union[str, Path],
    frames: Mapping[str, int],
    severity: int = 5,
    size: tuple[int, int] = SIZE,
) -> Iterator[str]:
    """Writes the same scenes in fog, night, rain and snow, as ``rgb_anon/`` and ``gt/``.

    Args:
        root: A new or empty folder.
        frames, size: See ``write_cityscapes_layout``.
        severity: 1 to 5.

    Yields:
        The name of each clear frame, then 'adverse' for each adverse frame.

    Raises:
        ValueError: See ``write_cityscapes_layout`` and ``AdverseWriter``.
    """
    clear = tempfile.mkdtemp(prefix='driving_scenes_')
    try:
        yield from write_cityscapes_layout(clear, frames, size)
        writer = AdverseWriter(clear, str(root), severity=severity, splits=tuple(frames))
        for _ in writer.write():
            yield 'adverse'
    finally:
        shutil.rmtree(clear)
