"""Answers each image message with its mask and confidence, for bags and for the live node."""

from collections.abc import Iterator
from typing import Any

from .messages import CONFIDENCE, LABELS, MASK, Messages


class FrameLoop:
    """Runs a segmentor on the images of one topic, one after the other.

    Args:
        segmentor: An ``AdaptiveSegmentor``.
        messages: The ``Messages`` object that makes the answers.
        kind: The type of the image messages, one of ``IMAGE_TYPES``.
        confidence: One of ``CONFIDENCES``.

    Attributes:
        unreadable: For each of the last 1000 messages without a complete image, the reason.
        skipped: Number of all messages without a complete image.
    """

    def __init__(
        self, segmentor: Any, messages: Messages, kind: str, confidence: str = 'mono8'
    ) -> None:
        self.segmentor, self.messages, self.kind = segmentor, messages, kind
        self.encoding = confidence
        self.skipped = 0
        self.unreadable: list[str] = []
        self._told = False

    def answer(self, message: Any) -> Iterator[tuple[str, Any]]:
        """Runs one step of the segmentor on an image.

        Args:
            message: The message of the image.

        Yields:
            Name and message of each answer, with the header of the image. The names of the classes
            are yielded once, with the first image. If the message has no complete image, nothing is
            yielded.

        Raises:
            EncodingError: The encoding of the image is not supported.
        """
        # Imported here, because these modules import OpenCV and torch.
        from ..apis.frame_answer import frame_confidence, frame_mask
        from .image_message import ImageMessageError, frame_of

        try:
            frame = frame_of(message, self.kind, self.segmentor.channels)
        except ImageMessageError as error:
            self.skipped += 1
            self.unreadable.append(str(error))
            del self.unreadable[:-1000]
            return
        sample = self.segmentor.step(frame)
        header = message.header
        if not self._told:
            self._told = True
            yield LABELS, self.messages.label_info(header, self.segmentor.meta.classes)
        yield MASK, self.messages.mask(header, frame_mask(sample))
        if self.encoding != 'none':
            probability = frame_confidence(sample)
            yield CONFIDENCE, self.messages.confidence(header, probability, self.encoding)
