"""Adapts to a video, a camera or a folder of frames: python tools/adapt_video.py IN OUT ...

IN is a video, a folder of images, the number of a camera (0) or an address (rtsp://host/stream).
OUT, a video (.mp4, .avi) or a folder, shows side by side the frame, the source model's mask and the
adapted model's; with --overlay the adapted mask over the frame. --masks DIR writes the masks
themselves. The tool needs only the frames, no labels. Without a config the model is a small
SegFormer of CamVid, which knows 11 classes; a checkpoint of Cityscapes does better. A camera runs
until Ctrl-C or --max-frames; both complete the video.
"""

import argparse
import signal
import sys
import time
from itertools import islice
from pathlib import Path

import numpy as np

try:
    from ecotta_seg.cli.command_line import run_tool, whole_number
    from ecotta_seg.cli.segmentor_arguments import (  # noqa: F401  (of this tool, for whoever imports it)
        CHECKPOINT,
        Progress,
        add_segmentor_arguments,
        build_segmentor,
        look_at_segmentor,
        save_segmentor,
    )
    from ecotta_seg.names.choices import MASK_FORMATS
    from ecotta_seg.names.printable import printable
    from ecotta_seg.startup.first_look import check_output, images_of, is_video_output
except ImportError as error:  # A library of the stack is missing or too old.
    print(f'error: {error}', file=sys.stderr)
    raise SystemExit(2) from None


def parse_args(argv: list[str]) -> argparse.Namespace:
    """Parses the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        'input', help='video file, folder of images, number of a camera, or address of a stream'
    )
    parser.add_argument('output', help='video file or folder for the pictures')
    parser.add_argument(
        '--overlay', action='store_true', help='show only the adapted mask over the frame'
    )
    parser.add_argument('--masks', metavar='DIR', help='write the mask of each frame as a PNG file')
    parser.add_argument(
        '--mask-format',
        choices=MASK_FORMATS,
        help="content of the --masks files: class indices (default), Cityscapes' label ids, or "
        'colours',
    )
    parser.add_argument('--max-frames', type=whole_number(1))
    parser.add_argument(
        '--width',
        type=whole_number(16),
        default=480,
        help='width of each picture in pixels; default: 480',
    )
    add_segmentor_arguments(parser)
    return parser.parse_args(argv)


def first_look(args: argparse.Namespace):
    """Reads the config; tells mistakes in the arguments before torch is imported."""
    live = args.input.isdecimal() or '://' in args.input
    if not live:
        if not Path(args.input).exists():
            raise ValueError(
                f'expected a video file or a folder of images: {args.input} does not exist'
            )
        for path in (args.output, args.masks):
            if path and Path(args.input).resolve() == Path(path).resolve():
                raise ValueError(f'{path} is the input: it would be overwritten, choose another')
    if args.masks and Path(args.masks).resolve() == Path(args.output).resolve():
        raise ValueError(f'{args.masks} is the output: choose another folder for --masks')
    if args.mask_format and not args.masks:
        raise ValueError('--mask-format needs --masks DIR')
    is_video_output(Path(args.output))
    check_output(args.output, 'OUT')
    if args.masks:
        if Path(args.masks).is_file():
            raise ValueError(f'{args.masks} is a file: choose another --masks')
        check_output(args.masks, '--masks')
    config = look_at_segmentor(args)
    if not live and Path(args.input).is_dir():
        images_of(Path(args.input))
    return config


class Pictures:
    """Draws the pictures of a run, all of one size and with one legend.

    Args:
        segmentor: With its source, unless ``overlay``.
        overlay: The adapted mask over the frame, instead of frame and masks side by side.
        width: Of each picture in pixels.
        known: Names of the classes in the legend; None for all.
    """

    def __init__(self, segmentor, overlay: bool, width: int, known=None) -> None:
        self.segmentor, self.overlay, self.width = segmentor, overlay, width
        classes = segmentor.meta.classes
        self.legend = [i for i, name in enumerate(classes) if known is None or name in known]

    def draw(self, name: str, frame: np.ndarray, mask: np.ndarray) -> np.ndarray:
        """(H, W, 3) uint8 BGR of a frame (BGR) and its mask (H, W)."""
        from ecotta_seg.apis.frame_answer import frame_mask
        from ecotta_seg.visualization.condition_panel import condition_panel
        from ecotta_seg.visualization.overlay import overlay_panel

        options = dict(title=printable(name), width=self.width, legend=self.legend)
        rgb, meta = frame[..., ::-1], self.segmentor.meta
        if self.overlay:
            picture = overlay_panel(rgb, mask, *meta, **options)
        else:
            source = frame_mask(self.segmentor.predict_source(frame))
            picture = condition_panel(
                rgb, [('source', source), ('adapted', mask)], *meta, **options
            )
        return np.ascontiguousarray(picture[..., ::-1])


class Frames:
    """The frames of a source, up to a number, with a length for the bar (0: unknown)."""

    def __init__(self, source, most) -> None:
        self._frames = islice(source, most)
        self._length = min((n for n in (source.count, most) if n), default=0)

    def __iter__(self):
        return iter(self._frames)

    def __len__(self):
        return self._length


def main(argv: list[str]) -> None:
    """Steps through the frames."""
    args = parse_args(argv)
    config = first_look(args)
    from ecotta_seg.cli.loading import load_package

    load_package()
    from ecotta_seg.apis.frame_answer import frame_mask
    from ecotta_seg.apis.frame_files import FrameSource, PictureSink
    from ecotta_seg.apis.live_source import LiveSource, live_address
    from ecotta_seg.files.png_file import atomic_write_png
    from ecotta_seg.hooks.progress import progress
    from ecotta_seg.masks import MaskEncoder
    from ecotta_seg.names.file_names import safe_file_name

    address = live_address(args.input)
    source = FrameSource(args.input) if address is None else LiveSource(address)
    sink = PictureSink(args.output, source.rate)
    segmentor = build_segmentor(args, config, keep_source=not args.overlay)
    done = Progress(segmentor)
    known = config.get('trained_classes') if args.config is None else None
    pictures = Pictures(segmentor, args.overlay, args.width, known)
    encoder = MaskEncoder(args.mask_format or MASK_FORMATS[0], *segmentor.meta)

    def stop(number, _):
        if address is None:
            # As Ctrl-C: what was learned is saved, and no half of a video is left.
            sys.exit(128 + number)
        source.stop()

    signals = (signal.SIGTERM,) if address is None else (signal.SIGTERM, signal.SIGINT)
    before = {number: signal.signal(number, stop) for number in signals}
    unreadable, seconds = [], 0.0
    try:
        with sink:
            for name, frame in progress(Frames(source, args.max_frames), 'frames'):
                if frame is None:
                    unreadable.append(name)
                    continue
                start = time.perf_counter()
                mask = frame_mask(segmentor.step(frame))
                seconds += time.perf_counter() - start
                if args.masks:
                    path = Path(args.masks) / f'{safe_file_name(name)}.png'
                    atomic_write_png(path, encoder.encode(mask))
                sink.write(name, pictures.draw(name, frame, mask))
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        save_segmentor(args, segmentor)
    if not done.frames:
        raise ValueError(f'{args.input}: none of its {len(unreadable)} images can be decoded')
    print(
        f'{done.frames} frames, {done.updates} updates, '
        f'{done.frames / seconds:.1f} frames/s (adapting alone): {printable(args.output)}'
    )
    if getattr(source, 'left_out', 0):
        print(f'{source.left_out} frames came during the work on another frame and were left out')
    for line in done.events('frame'):
        print(line)
    if unreadable:
        names = printable(', '.join(unreadable[:5]))
        print(f'{len(unreadable)} images could not be decoded: {names}')


if __name__ == '__main__':
    sys.exit(run_tool(main))
