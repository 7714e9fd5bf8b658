"""Writes procedural driving scenes: python tools/make_driving_scenes.py OUT --train 600 --val 40.

The scenes are clear, in Cityscapes' layout, or with --layout acdc in fog, night, rain and snow. The
same numbers give the same pixels.
"""

import argparse
import sys

try:
    from ecotta_seg.cli.command_line import check_work_dir, run_tool, whole_number
    from ecotta_seg.cli.loading import load_package
except ImportError as error:  # A library of the stack is missing or too old.
    print(f'error: {error}', file=sys.stderr)
    raise SystemExit(2) from None


def parse_args(argv: list[str]) -> argparse.Namespace:
    """Parses the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('root', metavar='OUT', help='folder to write to')
    for split in ('train', 'val', 'test'):
        parser.add_argument(f'--{split}', type=whole_number(0), default=0, help='number of scenes')
    parser.add_argument('--layout', choices=('cityscapes', 'acdc'), default='cityscapes')
    parser.add_argument(
        '--severity', type=int, default=5, help='severity of the weather of --layout acdc, 1 to 5'
    )
    parser.add_argument('--size', type=int, nargs=2, default=(256, 128), metavar=('W', 'H'))
    return parser.parse_args(argv)


def main(argv: list[str]) -> None:
    """Writes the scenes with a progress bar."""
    args = parse_args(argv)
    frames = {split: getattr(args, split) for split in ('train', 'val', 'test')}
    frames = {split: number for split, number in frames.items() if number}
    if not frames:
        raise ValueError('nothing to write: give --train, --val or --test a number')
    check_work_dir(args.root, 'OUT')
    load_package()
    from mmengine.utils import ProgressBar

    from ecotta_seg.datasets.scenes.scene_writer import (
        write_acdc_layout,
        write_cityscapes_layout,
    )

    total = sum(frames.values())
    if args.layout == 'acdc':
        written = write_acdc_layout(args.root, frames, args.severity, tuple(args.size))
        total *= 5
    else:
        written = write_cityscapes_layout(args.root, frames, tuple(args.size))
    progress = ProgressBar(total, file=sys.stdout)
    for _ in written:
        progress.update()
    print(f'\nwritten to {args.root}')


if __name__ == '__main__':
    sys.exit(run_tool(main))
