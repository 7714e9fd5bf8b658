"""Segments the images of a ROS 2 topic as they come: python tools/ros2_node.py --topic NAME ...

The node does for a topic what ros2_bag.py does for a bag. It needs rclpy, sensor_msgs, vision_msgs
and std_srvs, which come with ROS 2. Masks, confidence and the names of the classes are published
with the stamp and the frame of the image. Ctrl-C ends the node; --save-state saves the learned
state. Arguments after --ros-args are for ROS.
"""

import argparse
import sys

try:
    from ecotta_seg.cli.command_line import run_tool
    from ecotta_seg.cli.segmentor_arguments import (
        Progress,
        add_segmentor_arguments,
        build_segmentor,
        look_at_segmentor,
        save_segmentor,
    )
    from ecotta_seg.ros.topics import add_answer_arguments, answer_topics
except ImportError as error:  # A library of the stack is missing or too old.
    print(f'error: {error}', file=sys.stderr)
    raise SystemExit(2) from None


def parse_args(argv: list[str]) -> argparse.Namespace:
    """Parses the command line; what is for ROS becomes ``ros_arguments``."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--topic', required=True, help='topic of the images')
    parser.add_argument(
        '--compressed',
        action='store_true',
        help='read the images as sensor_msgs/CompressedImage; default if the topic ends in '
        '/compressed',
    )
    add_answer_arguments(parser)
    add_segmentor_arguments(parser)
    place = argv.index('--ros-args') if '--ros-args' in argv else len(argv)
    args = parser.parse_args(argv[:place])
    args.ros_arguments = argv[place:]
    return args


def main(argv: list[str]) -> None:
    """Spins the node."""
    args = parse_args(argv)
    config = look_at_segmentor(args)
    from ecotta_seg.ros.messages import COMPRESSED, IMAGE
    from ecotta_seg.ros.node import SegmentationNode, check_ros

    check_ros()
    answer_topics(args.prefix, args.confidence)
    compressed = args.compressed or args.topic.endswith('/compressed')
    segmentor = build_segmentor(args, config)
    done = Progress(segmentor)
    node = SegmentationNode(
        segmentor,
        args.topic,
        COMPRESSED if compressed else IMAGE,
        args.prefix,
        args.confidence,
        args.ros_arguments,
    )
    try:
        node.spin()
    finally:
        save_segmentor(args, segmentor)
    print(
        f'{args.topic}: {done.frames} images, {done.updates} updates, '
        f'{node.loop.skipped} messages without a whole image'
    )


if __name__ == '__main__':
    sys.exit(run_tool(main))
