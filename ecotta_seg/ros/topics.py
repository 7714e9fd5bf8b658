"""The topics of the answers, and the arguments that choose them."""

import argparse
import re

from .messages import CONFIDENCE, CONFIDENCES, IMAGE, LABEL_INFO, LABELS, MASK

_NAME = re.compile(r'/?[A-Za-z_]\w*(/[A-Za-z_]\w*)*', re.ASCII)


def add_answer_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments ``--prefix`` and ``--confidence``."""
    parser.add_argument(
        '--prefix',
        default='/segmentation',
        help='of the topics: PREFIX/mask, PREFIX/confidence and PREFIX/label_info',
    )
    parser.add_argument(
        '--confidence',
        choices=CONFIDENCES,
        default=CONFIDENCES[0],
        help="the probability of each pixel's class as 0 to 255, as 0 to 1, or not at all",
    )


def answer_topics(prefix: str, confidence: str) -> dict[str, tuple[str, str]]:
    """Topic and type of each message of a ``FrameLoop``.

    Args:
        prefix: Prefix of the names of the topics, such as ``'/segmentation'``.
        confidence: One of ``CONFIDENCES``.

    Raises:
        ValueError: The prefix is not a valid name of a topic.
    """
    if not _NAME.fullmatch(prefix):
        raise ValueError(
            f'--prefix: expected the name of a topic, such as /segmentation, got {prefix!r}'
        )
    kinds = {LABELS: LABEL_INFO, MASK: IMAGE, CONFIDENCE: IMAGE}
    if confidence == 'none':
        del kinds[CONFIDENCE]
    return {name: (f'{prefix}/{name}', kind) for name, kind in kinds.items()}
