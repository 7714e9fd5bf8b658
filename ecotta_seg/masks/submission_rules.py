"""The rules of evaluation servers for submissions, as published by their operators."""

from typing import NamedTuple, Optional

from .ids import CITYSCAPES_CLASSES, UNLABELED, label_ids_of


class SubmissionRules(NamedTuple):
    """The rules of one server.

    Attributes:
        folder: The folder in the archive that holds all files; '' for none.
        frame: Regular expression for the part of an image's name that identifies the frame.
        mask_format: Format of the pixels: ``'train_ids'`` or ``'label_ids'``.
        ids: The ids that a pixel may have.
        size: Width and height of each mask, in pixels.
        images: Number of images of the test split.
        most_bytes: Maximum size of the archive, in bytes; None if no limit is known.
    """

    folder: str
    frame: str
    mask_format: str
    ids: frozenset
    size: tuple
    images: int
    most_bytes: Optional[int] = None


_TRAIN_IDS = frozenset(range(len(CITYSCAPES_CLASSES)))
SERVERS = {
    # acdc.vision.ee.ethz.ch/submit: train ids at 1920x1080 in a folder labelTrainIds, according to
    # the instructions of HRDA, VBLC and DTBS. 500 test images per condition (arXiv 2104.13395).
    'acdc': SubmissionRules(
        'labelTrainIds',
        r'(?:GOPR\d{4}|GP\d{6})_frame_\d{6}',
        'train_ids',
        _TRAIN_IDS,
        (1920, 1080),
        2000,
    ),
    # github.com/timbroed/MUSES/issues/4: a folder labelTrainIds with {sequence}_frame_{frame}*.png,
    # one for each of the 750 test images (arXiv 2401.12761), in train ids at 1920x1080.
    'muses': SubmissionRules(
        'labelTrainIds', r'REC\d{4}_frame_\d{6}', 'train_ids', _TRAIN_IDS, (1920, 1080), 750
    ),
    # cityscapes-dataset.com/submit and cityscapesscripts' evalPixelLevelSemanticLabeling.py:
    # {city}_{sequence}_{frame}*.png, one for each of the 1525 test images, in label ids at
    # 2048x1024, 100 MB at most.
    'cityscapes': SubmissionRules(
        '',
        r'[a-z-]+_\d{6}_\d{6}',
        'label_ids',
        frozenset([UNLABELED, *label_ids_of(CITYSCAPES_CLASSES)]),
        (2048, 1024),
        1525,
        100_000_000,
    ),
}
