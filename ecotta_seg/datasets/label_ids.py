"""The ids that labels of other data sets hold, as Cityscapes' 19 train ids."""

import io
import json

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

# https://www.vis.xyz/shift: id 0 to 22, named as in Cityscapes if it is the same class. SHIFT has
# one class for all vehicles, which is none of Cityscapes' six, so vehicles are not scored.
SHIFT_IDS = _train_ids(
    ['unlabeled', 'building', 'fence', 'other', 'person', 'pole', 'road', 'road', 'sidewalk']
    + ['vegetation', 'vehicle', 'wall', 'traffic sign', 'sky', 'ground', 'bridge', 'rail track']
    + ['guard rail', 'traffic light', 'static', 'dynamic', 'water', 'terrain']
)

# The names in IDD's polygons. As in AutoNUE's helpers/anue_labels.py (`csTrainId`), the ground
# beside roads and sidewalks is terrain.
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


def ids_in_red(content: bytes) -> np.ndarray:
    """Ids of a picture that has them in its only channel, or in the red one, as SHIFT's labels do.

    Args:
        content: The bytes of the file.

    Returns:
        (H, W) uint8.

    Raises:
        ValueError: The file cannot be decoded as a picture of 8 bits a sample.
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
    """Train ids of IDD's polygons, drawn in their order as AutoNUE's ``createLabels.py`` does.

    Args:
        content: JSON with ``imgHeight``, ``imgWidth`` and ``objects``, each of which has a
            ``label`` and a ``polygon`` of points x, y.

    Returns:
        (H, W) uint8, 255 for pixels of no class of Cityscapes.

    Raises:
        ValueError: The file is no such JSON, or a label's name is unknown.
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
    """A crowd of one class, for example ``'cargroup'``, has that class."""
    single = name[: -len('group')]
    return single if name not in IDD_NAMES and name.endswith('group') else name
