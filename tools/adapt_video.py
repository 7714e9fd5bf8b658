"""Adapts to a video or a folder of frames: python tools/adapt_video.py IN OUT --config C ...

OUT, a video (.mp4, .avi) or a folder, shows side by side the frame, the source model's mask and
the adapted model's. Nothing but the frames is needed: no labels. Without a config the model is a
small SegFormer of CamVid, which knows 11 classes; a checkpoint of Cityscapes does better.
"""

import argparse
import signal
import sys
import time
from itertools import islice
from pathlib import Path

import numpy as np

try:
    from ecotta_seg.command_line import run_tool, whole_number
    from ecotta_seg.config import import_custom_modules, read_config
    from ecotta_seg.first_look import (
        check_adapters,
        check_checkpoint,
        check_device,
        check_pictures,
    )
    from ecotta_seg.loading import load_package
    from ecotta_seg.printable import printable
except ImportError as error:  # A library of the stack is missing or too old.
    print(f'error: {error}', file=sys.stderr)
    raise SystemExit(2) from None


ROOT = Path(__file__).resolve().parents[1]
CONFIG = ROOT / 'configs/camvid_video.py'
CHECKPOINT = ROOT / 'data/checkpoints/segformer_b0_camvid.pth'


def parse_args(argv: list[str]) -> argparse.Namespace:
    """Parses the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('input', help='video file or folder of images')
    parser.add_argument('output', help='video file or folder for the pictures')
    parser.add_argument('--config', help='default: SegFormer-B0 of CamVid, in this repository')
    parser.add_argument('--checkpoint', help='weights of the source, with --config')
    parser.add_argument('--adapters', help='warmed-up meta networks')
    parser.add_argument(
        '--calibrate',
        metavar='DIR',
        help='folder with a dozen pictures of clear weather, without labels; default: the '
        'calibration in the adapters, or estimates',
    )
    parser.add_argument('--device', default='cpu')
    parser.add_argument('--memory-budget', help="for example 600MB or 1.0x; needs a method's own")
    parser.add_argument('--adapt-every', type=whole_number(1), default=1)
    parser.add_argument('--time-budget', type=float, help='seconds a frame, on average')
    parser.add_argument('--max-frames', type=whole_number(1))
    parser.add_argument('--width', type=whole_number(16), default=480, help='of each picture')
    parser.add_argument('--save-adapters', help='file for the meta networks at the end')
    parser.add_argument('--trust-checkpoint', action='store_true')
    return parser.parse_args(argv)


def first_look(args: argparse.Namespace):
    """Reads the config; tells mistakes in the arguments before torch is imported."""
    if (args.config is None) != (args.checkpoint is None):
        raise ValueError(
            'expected --config and --checkpoint together: weights are of the model of one config'
        )
    if not Path(args.input).exists():
        raise ValueError(
            f'expected a video file or a folder of images: {args.input} does not exist'
        )
    if Path(args.input).resolve() == Path(args.output).resolve():
        raise ValueError(f'{args.output} is the input: it would be written over, choose another')
    if args.config is None and not CHECKPOINT.is_file():
        raise ValueError(
            f"the SegFormer-B0 of CamVid ({CHECKPOINT.name}) comes with a clone of ecotta_seg's "
            'repository, and not with an installed wheel: give --config and --checkpoint, for '
            'example ecotta_seg::acdc_ecotta_segformer_b5.py and a checkpoint of Cityscapes'
        )
    check_device(args.device)
    check_checkpoint(args.checkpoint or CHECKPOINT)
    if args.adapters:
        check_adapters(args.adapters)
    check_pictures(args.calibrate)
    return read_config(args.config or CONFIG)


def main(argv: list[str]) -> None:
    """Steps through the frames."""
    args = parse_args(argv)
    config = first_look(args)
    load_package()
    import_custom_modules(config)
    from ecotta_seg.apis import init_adaptive_segmentor
    from ecotta_seg.apis.frame_files import FrameSource, PictureSink
    from ecotta_seg.hooks.progress import progress
    from ecotta_seg.visualization.condition_panel import condition_panel

    source = FrameSource(args.input)
    sink = PictureSink(args.output, source.rate)
    if args.config is None:
        print(
            f'note: without --config the model is SegFormer-B0 of CamVid ({CHECKPOINT.name}), '
            f'which knows {", ".join(config.trained_classes)}, and no other class; a checkpoint of '
            "Cityscapes does better, for example of mmseg's zoo: --config "
            'configs/acdc_ecotta_segformer_b5.py --checkpoint FILE',
            file=sys.stderr,
        )
    segmentor = init_adaptive_segmentor(
        config,
        args.checkpoint or CHECKPOINT,
        args.device,
        args.memory_budget,
        adapters=args.adapters,
        adapt_every=args.adapt_every,
        time_budget=args.time_budget,
        keep_source=True,
        trust_checkpoint=args.trust_checkpoint,
        calibrate=args.calibrate,
    )
    if args.save_adapters and not segmentor.has_adapters:
        raise ValueError(f'--save-adapters: {args.config or CONFIG} adapts no meta networks')
    # As Ctrl-C: what was learned is saved, and no half of a video is left.
    before = signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    frames = islice(source, args.max_frames)
    counts = [count for count in (source.count, args.max_frames) if count]
    unreadable, seconds = [], 0.0

    class Sized:
        def __iter__(self):
            return iter(frames)

        def __len__(self):
            return min(counts) if counts else 0

    try:
        with sink:
            for name, frame in progress(Sized(), 'frames'):
                if frame is None:
                    unreadable.append(name)
                    continue
                start = time.perf_counter()
                adapted = segmentor.step(frame)
                seconds += time.perf_counter() - start
                masks = [
                    (title, sample.pred_sem_seg.data[0].cpu().numpy().astype(np.int64))
                    for title, sample in (
                        ('source', segmentor.predict_source(frame)),
                        ('adapted', adapted),
                    )
                ]
                picture = condition_panel(
                    frame[..., ::-1], masks, *segmentor.meta, printable(name), args.width
                )
                sink.write(name, np.ascontiguousarray(picture[..., ::-1]))
    finally:
        signal.signal(signal.SIGTERM, before)
        if args.save_adapters and segmentor.updates:
            segmentor.save_adapters(args.save_adapters)
    if not segmentor.frames:
        raise ValueError(f'{args.input}: none of its {len(unreadable)} images can be decoded')
    print(
        f'{segmentor.frames} frames, {segmentor.updates} updates, '
        f'{segmentor.frames / seconds:.1f} frames/s (adapting alone): {printable(args.output)}'
    )
    for event in segmentor.events:
        print(f'frame {event["stream_index"]}: {event["event"]}, {event["reason"]}')
    if unreadable:
        names = printable(', '.join(unreadable[:5]))
        print(f'{len(unreadable)} images could not be decoded: {names}')


if __name__ == '__main__':
    sys.exit(run_tool(main))
