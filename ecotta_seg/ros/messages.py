"""The messages that answer an image: mask, confidence, and the names of the classes."""

from collections.abc import Sequence
from typing import Any, Callable

import numpy as np

IMAGE, COMPRESSED = 'sensor_msgs/msg/Image', 'sensor_msgs/msg/CompressedImage'
IMAGE_TYPES = (IMAGE, COMPRESSED)
LABEL_INFO = 'vision_msgs/msg/LabelInfo'
# The interfaces of the package vision_msgs, as far as they are written.
VISION_CLASS_TEXT = 'uint16 class_id\nstring class_name\n'
LABEL_INFO_TEXT = 'std_msgs/Header header\nvision_msgs/VisionClass[] class_map\nfloat32 threshold\n'
DEFINITIONS = {'vision_msgs/msg/VisionClass': VISION_CLASS_TEXT, LABEL_INFO: LABEL_INFO_TEXT}

MASK, CONFIDENCE, LABELS = 'mask', 'confidence', 'label_info'
"""The messages that answer an image, by the last part of their topics."""

CONFIDENCES = ('mono8', '32FC1', 'none')
"""What the confidence is written as: 255 times the probability, the probability, or not at all."""


class Messages:
    """Makes messages of rosbags or of rclpy.

    Args:
        kinds: From a name such as ``'sensor_msgs/msg/Image'`` to the class of the message.
        array: From bytes to what the class takes as ``data``.
    """

    def __init__(self, kinds: Callable[[str], type], array: Callable[[bytes], Any]) -> None:
        self._kinds, self._array = kinds, array

    def mask(self, header: Any, mask: np.ndarray) -> Any:
        """``sensor_msgs/Image`` in mono8.

        Args:
            header: Of the image that it answers: its stamp and its frame.
            mask: (H, W) uint8 class indices.
        """
        return self._image(header, 'mono8', mask)

    def confidence(self, header: Any, probability: np.ndarray, encoding: str) -> Any:
        """``sensor_msgs/Image`` of the probability of each pixel's class.

        Args:
            header: See ``mask``.
            probability: (H, W) float32 from 0 to 1.
            encoding: ``'mono8'`` (255 is sure) or ``'32FC1'`` (1 is sure).
        """
        if encoding == 'mono8':
            return self._image(header, encoding, np.rint(probability * 255).astype(np.uint8))
        return self._image(header, encoding, probability.astype('<f4'))

    def label_info(self, header: Any, classes: Sequence[str]) -> Any:
        """``vision_msgs/LabelInfo``: the name of each id in the masks.

        Args:
            header: Of the first image.
            classes: C names, in the order of the ids.
        """
        kind = self._kinds('vision_msgs/msg/VisionClass')
        entries = [kind(class_id=index, class_name=str(name)) for index, name in enumerate(classes)]
        return self._kinds(LABEL_INFO)(header=header, class_map=entries, threshold=0.0)

    def _image(self, header: Any, encoding: str, pixels: np.ndarray) -> Any:
        height, width = pixels.shape
        return self._kinds(IMAGE)(
            header=header,
            height=height,
            width=width,
            encoding=encoding,
            is_bigendian=0,
            step=width * pixels.itemsize,
            data=self._array(pixels.tobytes()),
        )
