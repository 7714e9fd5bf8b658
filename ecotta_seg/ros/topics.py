"""The topics of the answers."""

import re

from .messages import CONFIDENCE, IMAGE, LABEL_INFO, LABELS, MASK

_NAME = re.compile(r'/?[A-Za-z_]\w*(/[A-Za-z_]\w*)*', re.ASCII)


def answer_topics(prefix: str, confidence: str) -> dict[str, tuple[str, str]]:
    """Topic and type of each message of a ``FrameLoop``.

    Args:
        prefix: Such as ``'/segmentation'``.
        confidence: One of ``CONFIDENCES``.

    Raises:
        ValueError: The prefix is no name of a topic.
    """
    if not _NAME.fullmatch(prefix):
        raise ValueError(
            f'--prefix: expected the name of a topic, such as /segmentation, got {prefix!r}'
        )
    kinds = {LABELS: LABEL_INFO, MASK: IMAGE, CONFIDENCE: IMAGE}
    if confidence == 'none':
        del kinds[CONFIDENCE]
    return {name: (f'{prefix}/{name}', kind) for name, kind in kinds.items()}
