"""Makes the messages that answer an image: mask, confidence, and the names of the classes."""

from collections.abc import Sequence
from typing import Any, Callable

import numpy as np

IMAGE, COMPRESSED = 'sensor_msgs/msg/Image', 'sensor_msgs/msg/CompressedImage'
IMAGE_TYPES = (IMAGE, COMPRESSED)
LABEL_INFO = 'vision_msgs/msg/LabelInfo'
# The definitions of the messages of the package vision_msgs that this package writes.
VISION_CLASS_TEXT = 'uint16 class_id\nstring class_name\n'
LABEL_INFO_TEXT = 'std_msgs/Header header\nvision_msgs/VisionClass[] class_map\nfloat32 threshold\n'
DEFINITIONS = {'vision_msgs/msg/VisionClass': VISION_CLASS_TEXT, LABEL_INFO: LABEL_INFO_TEXT}

MASK, CONFIDENCE, LABELS = 'mask', 'confidence', 'label_info'
"""The messages that answer an image, by the last part of their topics."""

CONFIDENCES = ('mono8', '32FC1', 'none')
"""What the confidence is written as: 255 times the probability, the probability, or not at all."""


class Messages:
    """Makes messages for rosbags or for rclpy.

    Args:
        kinds: Returns the class of a message from a name such as ``'sensor_msgs/msg/Image'``.
        array: Converts bytes to the type of the field ``data`` of these classes.
    """

    def __init__(self, kinds: Callable[[str], type], array: Callable[[bytes], Any]) -> None:
        self._kinds, self._array = kinds, array

    def mask(self, header: Any, mask: np.ndarray) -> Any:
        """Makes a ``sensor_msgs/Image`` of a mask, in mono8.

        Args:
            header: The header of the answered image, with its time stamp and coordinate frame.
            mask: (H, W) uint8 class indices.
        """
        return self._image(header, 'mono8', mask)

    def confidence(self, header: Any, probability: np.ndarray, encoding: str) -> Any:
        """Makes a ``sensor_msgs/Image`` of the probability of each pixel's predicted class.

        Args:
            header: See ``mask``.
            probability: (H, W) float32 from 0 to 1.
            encoding: ``'mono8'`` (probability 1 is 255) or ``'32FC1'`` (probability 1 is 1.0).
        """
        if encoding == 'mono8':
            return self._image(header, encoding, np.rint(probability * 255).astype(np.uint8))
        return self._image(header, encoding, probability.astype('<f4'))

    def label_info(self, header: Any, classes: Sequence[str]) -> Any:
        """Makes a ``vision_msgs/LabelInfo`` with the class name of each id in the masks.

        Args:
            header: The header of the first image.
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
