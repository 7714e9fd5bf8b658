"""From the message of an image to the messages that answer it: in a bag and in a live node."""

from collections.abc import Iterator
from typing import Any

from .messages import CONFIDENCE, LABELS, MASK, Messages


class FrameLoop:
    """Steps through the images of one topic.

    Args:
        segmentor: An ``AdaptiveSegmentor``.
        messages: Makes the messages.
        kind: The type of the images' messages.
        confidence: One of ``CONFIDENCES``.

    Attributes:
        unreadable: What was wrong with each message that holds no whole image, the last 1000.
        skipped: Their number.
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
        """Steps the segmentor on an image.

        Args:
            message: Of the image.

        Yields:
            Name and message of each answer, with the image's own header. The names of the classes
            come once, with the first image. Of a message without a whole image nothing comes.

        Raises:
            EncodingError: The encoding of the images is not read.
        """
        # Here, because they import OpenCV and torch.
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
