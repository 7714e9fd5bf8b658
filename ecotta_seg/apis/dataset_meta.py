"""Names and colours of a model's classes."""

from collections.abc import Mapping
from typing import Any, NamedTuple, Optional

import numpy as np
from mmengine.config import Config
from mmseg.datasets import CityscapesDataset
from mmseg.registry import DATASETS

from ..config.config import inner_dataset
from ..names.class_names import described_classes


class DatasetMeta(NamedTuple):
    """Names and colours of a model's classes, in the order of its logits.

    Attributes:
        classes: Name of each class.
        palette: RGB colour of each class, 0 to 255.
    """

    classes: list[str]
    palette: list[list[int]]


def dataset_meta(cfg: Config, checkpoint_meta: Mapping[str, Any], classes: int) -> DatasetMeta:
    """Finds the classes as mmseg does: in the checkpoint, then in the config's data set.

    Args:
        cfg: The config.
        checkpoint_meta: The checkpoint's ``meta``: with ``dataset_meta``, or ``CLASSES`` and
            ``PALETTE`` of mmseg before 1.0.
        classes: Number of the model's classes.

    Returns:
        Names and colours from the first place with the right number of classes. Otherwise those of
        Cityscapes for 19 classes, and numbers with random colours for any other number.
    """
    for found in (*described_classes(checkpoint_meta), _of_config(cfg)):
        meta = _fitting(found, classes)
        if meta is not None:
            return meta
    meta = _fitting(CityscapesDataset.METAINFO, classes)
    colours = np.random.default_rng(42).integers(0, 256, (classes, 3)).tolist()
    return meta or DatasetMeta([f'class {number}' for number in range(classes)], colours)


def _fitting(found: Any, classes: int) -> Optional[DatasetMeta]:
    if not isinstance(found, Mapping):
        return None
    names, palette = found.get('classes'), found.get('palette')
    if not names or not palette or len(names) != classes or len(palette) != classes:
        return None
    colours = [[int(value) for value in colour] for colour in palette]
    return DatasetMeta([str(name) for name in names], colours)


def _of_config(cfg: Config) -> Optional[Mapping]:
    dataset = inner_dataset(cfg)
    if dataset.get('metainfo'):
        return dataset['metainfo']
    kind = dataset.get('type')
    return getattr(DATASETS.get(kind) if isinstance(kind, str) else kind, 'METAINFO', None)
