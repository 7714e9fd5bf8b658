"""Frames out of the messages ``sensor_msgs/Image`` and ``sensor_msgs/CompressedImage``."""

from typing import Any

import cv2
import numpy as np

from .messages import COMPRESSED

# Channels of each pixel, and the conversion to BGR; None: the pixels are BGR.
_ENCODINGS = {
    'bgr8': (3, None),
    '8UC3': (3, None),
    'rgb8': (3, cv2.COLOR_RGB2BGR),
    'bgra8': (4, cv2.COLOR_BGRA2BGR),
    '8UC4': (4, cv2.COLOR_BGRA2BGR),
    'rgba8': (4, cv2.COLOR_RGBA2BGR),
    'mono8': (1, cv2.COLOR_GRAY2BGR),
    '8UC1': (1, cv2.COLOR_GRAY2BGR),
    # OpenCV names a Bayer pattern by the second and third pixel of the second row.
    'bayer_rggb8': (1, cv2.COLOR_BayerBG2BGR),
    'bayer_bggr8': (1, cv2.COLOR_BayerRG2BGR),
    'bayer_gbrg8': (1, cv2.COLOR_BayerGR2BGR),
    'bayer_grbg8': (1, cv2.COLOR_BayerGB2BGR),
    'yuv422': (2, cv2.COLOR_YUV2BGR_UYVY),
    'uyvy': (2, cv2.COLOR_YUV2BGR_UYVY),
    'yuv422_yuy2': (2, cv2.COLOR_YUV2BGR_YUY2),
    'yuyv': (2, cv2.COLOR_YUV2BGR_YUY2),
}
_COMPRESSIONS = ('jpeg', 'jpg', 'png', 'webp', 'bmp', 'tif')


class EncodingError(ValueError):
    """The images of a topic have an encoding that is not supported."""


class ImageMessageError(ValueError):
    """One message is damaged; later messages may be complete."""


def frame_of(message: Any, kind: str, channels: int = 3) -> np.ndarray:
    """Converts an image message to a frame.

    Args:
        message: A ``sensor_msgs/Image`` or ``sensor_msgs/CompressedImage``, from rosbags or rclpy.
        kind: The type of the message, one of ``IMAGE_TYPES``.
        channels: Number of input channels of the model: 3 for BGR, 1 for grey.

    Returns:
        (H, W, 3) uint8 BGR, or (H, W) uint8 grey.

    Raises:
        EncodingError: The encoding is not supported.
        ImageMessageError: The data is damaged, or its size does not match the message's other
            fields.
        ValueError: The model has neither 3 input channels nor 1.
    """
    if channels not in (1, 3):
        raise ValueError(
            f'images of ROS are in colour or grey, but the model takes {channels} channels'
        )
    if kind == COMPRESSED:
        return _decompressed(message, channels)
    frame, grey = _pixels(message)
    if channels == 1:
        return grey if grey is not None else cv2.cvtColor(frame, cv2.COLOR_BGR2GRAY)
    return frame


def _pixels(message: Any) -> tuple[np.ndarray, Any]:
    """The BGR pixels of an uncompressed image, and its grey pixels if the image is grey."""
    encoding, height, width = message.encoding, int(message.height), int(message.width)
    if encoding not in _ENCODINGS:
        raise EncodingError(
            f'expected images in one of the encodings {", ".join(_ENCODINGS)}, got {encoding!r}: '
            'publish them in one of these, for example by image_proc or cv_bridge'
        )
    values, conversion = _ENCODINGS[encoding]
    data, step = np.frombuffer(message.data, np.uint8), int(message.step)
    if height < 1 or width < 1 or step < width * values or data.size < height * step:
        raise ImageMessageError(
            f'{data.size} bytes of {height} rows of {step} bytes for {width} pixels in {encoding}'
        )
    # A row may have unused bytes after its pixels.
    rows = data[: height * step].reshape(height, step)[:, : width * values]
    pixels = np.ascontiguousarray(rows)
    if values > 1:
        pixels = pixels.reshape(height, width, values)
    if conversion is None:
        return pixels, None
    grey = pixels if conversion == cv2.COLOR_GRAY2BGR else None
    try:
        return cv2.cvtColor(pixels, conversion), grey
    except cv2.error:  # An odd number of columns, or too few for a pattern.
        raise ImageMessageError(f'{width}x{height} pixels are no picture in {encoding}') from None


def _decompressed(message: Any, channels: int) -> np.ndarray:
    # Imported here, because the data sets import mmseg.
    from ..datasets.checks.frame_error import FrameError, check_image_bytes

    told = str(message.format)
    encoding, separator, _ = told.partition(';')
    if separator and encoding.strip() not in _ENCODINGS:
        raise EncodingError(
            f'expected compressed images of 8 bits (JPEG, PNG, ...), got the format {told!r}'
        )
    if not any(name in told.lower() for name in _COMPRESSIONS):
        raise EncodingError(
            f'expected images compressed as JPEG, PNG, WebP, BMP or TIFF, got the format {told!r}: '
            'publish them uncompressed, for example by image_transport republish'
        )
    content = bytes(message.data)
    try:
        check_image_bytes('', content)
        mode = cv2.IMREAD_COLOR if channels == 3 else cv2.IMREAD_GRAYSCALE
        frame = cv2.imdecode(np.frombuffer(content, np.uint8), mode)
    except (FrameError, cv2.error):
        frame = None
    if frame is None:
        raise ImageMessageError(f'a {told} picture of {len(content)} bytes that is cut off')
    return frame
