"""Segments the images of a ROS 2 bag, without ROS: python tools/ros2_bag.py BAG OUT [--topic T] ...

BAG is a folder of rosbag2 or a file .mcap or .db3; so is OUT, which must be new. For each image of
the topic, in the order of the recording, OUT has the mask (sensor_msgs/Image, mono8), the
confidence, and, once, the names of the classes (vision_msgs/LabelInfo), with the stamp and the
frame of the image. The model adapts from image to image. Without a config the model is a small
SegFormer of CamVid.
"""

import argparse
import signal
import sys
from itertools import islice

try:
    from ecotta_seg.cli.command_line import run_tool, whole_number
    from ecotta_seg.cli.segmentor_arguments import (
        Progress,
        add_segmentor_arguments,
        build_segmentor,
        look_at_segmentor,
        save_segmentor,
    )
    from ecotta_seg.names.printable import printable
    from ecotta_seg.ros.bag_writer import STORAGES
    from ecotta_seg.ros.topics import add_answer_arguments, answer_topics
except ImportError as error:  # A library of the stack is missing or too old.
    print(f'error: {error}', file=sys.stderr)
    raise SystemExit(2) from None


def parse_args(argv: list[str]) -> argparse.Namespace:
    """Parses the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('bag', help='folder of rosbag2, or a file .mcap or .db3')
    parser.add_argument('output', help='new folder, or new file .mcap or .db3')
    parser.add_argument(
        '--topic', help="topic of the images; default: the bag's only topic of images"
    )
    add_answer_arguments(parser)
    parser.add_argument(
        '--storage', choices=STORAGES, default=STORAGES[0], help='storage of a folder'
    )
    parser.add_argument('--max-frames', type=whole_number(1))
    add_segmentor_arguments(parser)
    return parser.parse_args(argv)


class Images:
    """The images of a bag up to a number, with a length for the bar."""

    def __init__(self, bag, most) -> None:
        self._bag, self._most = bag, most

    def __iter__(self):
        return islice(iter(self._bag), self._most)

    def __len__(self):
        return min(len(self._bag), self._most or len(self._bag))


def main(argv: list[str]) -> None:
    """Steps through the images."""
    args = parse_args(argv)
    config = look_at_segmentor(args)
    from ecotta_seg.ros.bag_reader import ImageBag, check_rosbags
    from ecotta_seg.ros.bag_writer import AnswerBag, check_output

    check_rosbags()
    check_output(args.output)
    topics = answer_topics(args.prefix, args.confidence)
    with ImageBag(args.bag, args.topic) as bag:
        segmentor = build_segmentor(args, config)
        done = Progress(segmentor)
        from ecotta_seg.hooks.progress import progress
        from ecotta_seg.ros.frame_loop import FrameLoop
        from ecotta_seg.ros.messages import LABELS

        # As Ctrl-C: what was learned is saved, and no half of a bag is left.
        before = signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
        try:
            with AnswerBag(args.output, topics, (LABELS,), args.storage) as answers:
                loop = FrameLoop(segmentor, answers.messages, bag.kind, args.confidence)
                for recorded, message in progress(Images(bag, args.max_frames), 'images'):
                    for name, answer in loop.answer(message):
                        answers.write(name, recorded, answer)
                if not done.frames:
                    raise ValueError(
                        f'{args.bag}: none of the {loop.skipped} messages of {bag.topic} holds a '
                        f'whole image ({loop.unreadable[0]})'
                    )
        finally:
            signal.signal(signal.SIGTERM, before)
            save_segmentor(args, segmentor)
    print(f'{bag.topic}: {done.frames} images, {done.updates} updates: {printable(args.output)}')
    for line in done.events('image'):
        print(line)
    if loop.skipped:
        print(f'{loop.skipped} messages hold no whole image: {printable(loop.unreadable[0])}')


if __name__ == '__main__':
    sys.exit(run_tool(main))
