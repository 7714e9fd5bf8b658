"""Maps the label ids of other data sets to Cityscapes' 19 train ids."""

import io
import json
from collections.abc import Mapping
from typing import Optional

import numpy as np
from mmseg.datasets import CityscapesDataset
from PIL import Image, ImageDraw

IGNORED = 255
_TRAIN_IDS = {name: number for number, name in enumerate(CityscapesDataset.METAINFO['classes'])}


def _train_ids(names: list[str]) -> dict[int, int]:
    return {number: _TRAIN_IDS.get(name, IGNORED) for number, name in enumerate(names)}


# cityscapesscripts/helpers/labels.py: id 0 to 33, by name.
CITYSCAPES_IDS = _train_ids(
    ['unlabeled', 'ego vehicle', 'rectification border', 'out of roi', 'static', 'dynamic']
    + ['ground', 'road', 'sidewalk', 'parking', 'rail track', 'building', 'wall', 'fence']
    + ['guard rail', 'bridge', 'tunnel', 'pole', 'polegroup', 'traffic light', 'traffic sign']
    + ['vegetation', 'terrain', 'sky', 'person', 'rider', 'car', 'truck', 'bus', 'caravan']
    + ['trailer', 'train', 'motorcycle', 'bicycle']
)

# https://www.vis.xyz/shift: id 0 to 22, with Cityscapes' name for the same class. SHIFT has one
# class for all vehicles, which matches none of Cityscapes' six, so vehicles are not scored.
SHIFT_IDS = _train_ids(
    ['unlabeled', 'building', 'fence', 'other', 'person', 'pole', 'road', 'road', 'sidewalk']
    + ['vegetation', 'vehicle', 'wall', 'traffic sign', 'sky', 'ground', 'bridge', 'rail track']
    + ['guard rail', 'traffic light', 'static', 'dynamic', 'water', 'terrain']
)

# The names in IDD's polygons. The ground beside roads and sidewalks is terrain, as in AutoNUE's
# helpers/anue_labels.py (`csTrainId`).
_IDD_ONLY = (
    *('parking', 'drivable fallback', 'rail track', 'animal', 'autorickshaw', 'caravan', 'trailer'),
    *('vehicle fallback', 'curb', 'guard rail', 'billboard', 'polegroup', 'obs-str-bar-fallback'),
    *('bridge', 'tunnel', 'fallback background', 'unlabeled', 'ego vehicle', 'out of roi'),
    *('rectification border', 'license plate'),
)
IDD_NAMES = {
    **{name: number for name, number in _TRAIN_IDS.items() if name != 'terrain'},
    'non-drivable fallback': _TRAIN_IDS['terrain'],
    **dict.fromkeys(_IDD_ONLY, IGNORED),
}


def label_map_of(ids: Mapping[int, int], chosen: Optional[Mapping[int, int]]) -> dict[int, int]:
    """Returns mmseg's ``label_map`` for labels with other ids than train ids.

    Args:
        ids: A mapping from the ids in the label to train ids.
        chosen: The data set's own ``label_map``, which maps train ids to the indices of the
            chosen classes; None if all classes are used.
    """
    chosen = chosen or {}
    return {own: chosen.get(train, train) for own, train in ids.items()}


def ids_in_red(content: bytes) -> np.ndarray:
    """Reads ids from the only channel of a picture, or from the red one (SHIFT's labels).

    Args:
        content: The bytes of the file.

    Returns:
        (H, W) uint8.

    Raises:
        ValueError: The file cannot be decoded as a picture with 8 bits per sample.
    """
    try:
        with Image.open(io.BytesIO(content)) as image:
            label = np.array(image)
    except (OSError, SyntaxError, ValueError):
        raise ValueError('the label cannot be decoded') from None
    if label.dtype != np.uint8:
        raise ValueError(f'the label holds {label.dtype} values, expected 8 bits a sample')
    return label if label.ndim == 2 else np.ascontiguousarray(label[..., 0])


def ids_of_polygons(content: bytes) -> np.ndarray:
    """Draws IDD's polygons, in the order of the file, as AutoNUE's ``createLabels.py`` does.

    Args:
        content: JSON with ``imgHeight``, ``imgWidth`` and ``objects``. Each object has a ``label``
            and a ``polygon`` of points x, y.

    Returns:
        (H, W) uint8 train ids; 255 for pixels of no class of Cityscapes.

    Raises:
        ValueError: The file is not JSON of this form, or a label's name is unknown.
    """
    try:
        document = json.loads(content)
        size = (int(document['imgWidth']), int(document['imgHeight']))
        objects = [
            (str(entry['label']), [tuple(map(float, point)) for point in entry['polygon']])
            for entry in document['objects']
            if not entry.get('deleted')
        ]
        mask = Image.new('L', size, IGNORED)
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, MemoryError) as error:
        raise ValueError(
            'the label is no JSON of polygons with imgWidth, imgHeight and objects '
            f'({type(error).__name__}: {error})'
        ) from None
    unknown = sorted({name for name, _ in objects if _single(name) not in IDD_NAMES})
    if unknown:
        raise ValueError(
            f'the label names {", ".join(map(repr, unknown))}, which is no class of IDD: correct '
            'the name, or remove the polygons'
        )
    drawer = ImageDraw.Draw(mask)
    for name, polygon in objects:
        if any(len(point) != 2 for point in polygon):
            raise ValueError(f'a polygon of {name!r} has a point that is not x and y')
        if len(polygon) > 1:
            drawer.polygon(polygon, fill=IDD_NAMES[_single(name)])
    return np.array(mask)


def _single(name: str) -> str:
    """The class of a crowd, for example ``'car'`` for ``'cargroup'``."""
    single = name[: -len('group')]
    return single if name not in IDD_NAMES and name.endswith('group') else name
