"""The live node: subscribes to images and publishes their masks; needs ROS 2."""

import time
from array import array
from importlib import import_module
from importlib.util import find_spec
from typing import Any, Optional

from .frame_loop import FrameLoop
from .messages import LABELS, Messages
from .topics import answer_topics

_PACKAGES = ('rclpy', 'sensor_msgs', 'vision_msgs', 'std_srvs')
_SECONDS_BETWEEN_REPORTS = 10.0


def check_ros() -> None:
    """Checks that the packages of ROS 2 are installed, without importing them.

    Raises:
        ImportError: A package is missing.
    """
    missing = [name for name in _PACKAGES if find_spec(name) is None]
    if missing:
        raise ImportError(
            f'the live node needs {", ".join(missing)} of ROS 2, which this Python does not find: '
            'run `source /opt/ros/DISTRO/setup.bash` first, and install what is missing, for '
            'example ros-DISTRO-vision-msgs; bags need no ROS: tools/ros2_bag.py'
        )


class SegmentationNode:
    """A node that answers each image with its mask, its confidence and the names of the classes.

    The queue has one place. If an image arrives while another is processed, the new image replaces
    the waiting one, so the node never lags behind the camera by more than one image. The service
    ``~/adapting`` (``std_srvs/SetBool``) pauses and continues the adaptation.

    Args:
        segmentor: An ``AdaptiveSegmentor``.
        topic: Topic of the images.
        kind: Type of the image messages, ``sensor_msgs/msg/Image`` or ``CompressedImage``.
        prefix: Prefix of the names of the published topics.
        confidence: One of ``CONFIDENCES``.
        ros_arguments: The arguments from ``--ros-args`` on: remappings, parameters, the log level.
    """

    def __init__(
        self,
        segmentor: Any,
        topic: str,
        kind: str,
        prefix: str = '/segmentation',
        confidence: str = 'mono8',
        ros_arguments: Optional[list[str]] = None,
    ) -> None:
        import rclpy
        from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy

        self.segmentor = segmentor
        messages = Messages(_message_class, lambda content: array('B', content))
        self.loop = FrameLoop(segmentor, messages, kind, confidence)
        rclpy.init(args=ros_arguments or [])
        self.node = rclpy.create_node('ecotta_seg')
        last = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
        self._publishers = {
            name: self.node.create_publisher(
                _message_class(published), answer_topic, last if name == LABELS else 10
            )
            for name, (answer_topic, published) in answer_topics(prefix, confidence).items()
        }
        newest = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)
        self.node.create_subscription(_message_class(kind), topic, self._answer, newest)
        service = import_module('std_srvs.srv').SetBool
        self.node.create_service(service, '~/adapting', self._set_adapting)
        self._reported, self._frames = time.monotonic(), segmentor.frames

    def spin(self) -> None:
        """Answers images until ROS or a signal ends the node.

        Raises:
            EncodingError: The encoding of the images is not supported.
        """
        import rclpy
        from rclpy.executors import ExternalShutdownException

        try:
            rclpy.spin(self.node)
        except (KeyboardInterrupt, ExternalShutdownException):
            pass
        finally:
            self.node.destroy_node()
            rclpy.try_shutdown()

    def _answer(self, message: Any) -> None:
        skipped, number = self.loop.skipped, self.segmentor.frames
        for name, answer in self.loop.answer(message):
            self._publishers[name].publish(answer)
        if self.loop.skipped > skipped:
            self.node.get_logger().warning(f'no whole image: {self.loop.unreadable[-1]}')
        for event in self.segmentor.events:
            if event['stream_index'] >= number:
                self.node.get_logger().warning(
                    f'image {event["stream_index"]}: {event["event"]}, {event["reason"]}'
                )
        passed = time.monotonic() - self._reported
        if passed >= _SECONDS_BETWEEN_REPORTS:
            rate = (self.segmentor.frames - self._frames) / passed
            self.node.get_logger().info(
                f'{self.segmentor.frames} images, {rate:.1f} images/s, '
                f'{self.segmentor.updates} updates'
            )
            self._reported, self._frames = time.monotonic(), self.segmentor.frames

    def _set_adapting(self, request: Any, response: Any) -> Any:
        self.segmentor.adapting = bool(request.data)
        response.success = True
        response.message = 'adapting' if request.data else 'paused: images are predicted alone'
        return response


def _message_class(name: str) -> type:
    """Imports the class of a message type such as ``'sensor_msgs/msg/Image'``."""
    package, part, kind = name.split('/')
    return getattr(import_module(f'{package}.{part}'), kind)
