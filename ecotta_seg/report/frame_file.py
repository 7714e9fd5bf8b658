"""Files with one frame of a run and the frame's masks, small enough to embed in a page."""

import base64
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Union

import cv2
import numpy as np

from ..files.atomic_io import atomic_write_text
from ..names.file_names import safe_file_name
from ..visualization.condition_panel import mask_picture

FOLDER = 'report_pictures'
BEST, WORST = 'best', 'worst'
_JPEG_QUALITY = 80
_PICTURE = re.compile(r'data:image/(jpeg|png);base64,[A-Za-z0-9+/]+=*')
_COLOUR = re.compile(r'#[0-9a-f]{6}')
_NUMBERS = ('round', 'stream_index', 'difference', 'source_mIoU', 'adapted_mIoU')


def frame_file(folder: Union[str, Path], condition: str, kind: str) -> Path:
    """Returns the path of the file for the best or the worst frame of a condition.

    Args:
        folder: The work dir.
        condition: Name of the condition.
        kind: ``BEST`` or ``WORST``.
    """
    return Path(folder) / FOLDER / f'{safe_file_name(condition)}_{kind}.json'


def write_frame_file(
    folder: Union[str, Path],
    facts: Mapping[str, Any],
    image: np.ndarray,
    masks: Sequence[tuple[str, np.ndarray]],
    classes: Sequence[str],
    palette: Sequence[Sequence[int]],
    width: int,
) -> Path:
    """Writes the file of a frame atomically.

    Args:
        folder: The work dir.
        facts: ``condition``, ``kind``, ``frame`` (its name), ``round``, ``stream_index``,
            ``source_mIoU`` and ``adapted_mIoU`` in percent, and their ``difference``.
        image: (H, W, 3) uint8 RGB.
        masks: Title and (h, w) integer class indices of each mask.
        classes: C class names.
        palette: C colours (red, green, blue) from 0 to 255.
        width: Width of each picture in pixels.

    Returns:
        The path.

    Raises:
        OSError: The file cannot be written.
    """
    size = (width, max(1, round(image.shape[0] * width / image.shape[1])))
    shrinks = image.shape[1] > width
    shown = cv2.resize(image, size, None, 0, 0, cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC)
    pictures = [
        ['image', _data_uri(shown, '.jpg', 'jpeg', [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])]
    ]
    occurring: set[int] = set()
    for title, mask in masks:
        occurring |= {int(i) for i in np.unique(mask) if 0 <= i < len(classes)}
        picture = mask_picture(mask, classes, palette, size)
        pictures.append([title, _data_uri(picture, '.png', 'png', [])])
    legend = [
        [str(classes[i]), '#' + bytes(int(part) for part in palette[i]).hex()]
        for i in sorted(occurring)
    ]
    path = frame_file(folder, facts['condition'], facts['kind'])
    atomic_write_text(path, json.dumps({**facts, 'pictures': pictures, 'legend': legend}))
    return path


def _data_uri(picture: np.ndarray, suffix: str, kind: str, options: list[int]) -> str:
    _, encoded = cv2.imencode(suffix, picture[..., ::-1], options)
    return f'data:image/{kind};base64,{base64.b64encode(encoded.tobytes()).decode("ascii")}'


def read_frame_files(folder: Union[str, Path]) -> list[dict]:
    """Returns the content of each frame file of a run, in the order of the files' names.

    Raises:
        ValueError: A file is damaged.
    """
    frames = []
    for path in sorted((Path(folder) / FOLDER).glob('*.json')):
        try:
            found = json.loads(path.read_text(encoding='utf-8'))
        except (ValueError, RecursionError):
            found = None
        if not _fits(found):
            raise ValueError(
                f'{path} is damaged: remove the file to make the report without this picture'
            )
        frames.append(found)
    return frames


def _fits(found: Any) -> bool:
    """Whether all values have the expected form, so that a page may contain them."""
    if not isinstance(found, Mapping) or found.get('kind') not in (BEST, WORST):
        return False
    pictures, legend = found.get('pictures'), found.get('legend')
    return (
        all(isinstance(found.get(key), str) for key in ('condition', 'frame'))
        and all(isinstance(found.get(key), (int, float)) for key in _NUMBERS)
        and _are_pairs(pictures)
        and all(_PICTURE.fullmatch(picture) for _, picture in pictures)
        and _are_pairs(legend)
        and all(_COLOUR.fullmatch(colour) for _, colour in legend)
    )


def _are_pairs(found: Any) -> bool:
    return isinstance(found, list) and all(
        isinstance(pair, list) and len(pair) == 2 and all(isinstance(text, str) for text in pair)
        for pair in found
    )
