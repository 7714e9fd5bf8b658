"""The arguments of tools that process frames one by one; read before torch is imported."""

import argparse
import re
import sys
from pathlib import Path
from typing import Any, Optional

from mmengine.config import Config

from ..config.config import import_custom_modules, read_config
from ..config.method import with_method
from ..startup.compute_budget import parse_compute_budget
from ..startup.first_look import check_adapters, check_checkpoint, check_device, check_pictures
from ..startup.zoo_names import package_folder
from .command_line import PROCESS_FLAGS, whole_number
from .loading import load_package

CONFIGS = Path(package_folder('configs')).resolve()
CONFIG = CONFIGS / 'camvid_video.py'
CHECKPOINT = CONFIGS.parent / 'data/checkpoints/segformer_b0_camvid.pth'


def add_segmentor_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments for a segmentor, its adaptation, and the files to save at the end."""
    parser.add_argument('--config', help='default: SegFormer-B0 of CamVid, in this repository')
    parser.add_argument('--checkpoint', help='weights of the source, with --config')
    parser.add_argument(
        '--method',
        help='adaptation method, a file in configs/_base_/adaptation without its .py, or a file of '
        'your own with .py',
    )
    parser.add_argument('--adapters', help='warmed-up meta networks')
    parser.add_argument(
        '--calibrate',
        metavar='DIR',
        help='folder with a dozen pictures of clear weather, without labels; default: the '
        'calibration in the adapters, or estimates',
    )
    parser.add_argument('--device', default='cpu')
    parser.add_argument('--memory-budget', help="for example 600MB or 1.0x; needs a method's own")
    parser.add_argument(
        '--compute-budget', help='for example 1.5x: mean arithmetic, in multiples of inference'
    )
    parser.add_argument(
        '--size',
        metavar='SIZE',
        help="size at which the model sees a frame: 'frame' (its own), 'config' (as the config "
        'says), or height,width in pixels, such as 540,960; default: as the config says, but no '
        "frame is made larger. Masks always have the frame's own size",
    )
    parser.add_argument('--adapt-every', type=whole_number(1), default=1)
    parser.add_argument('--time-budget', type=float, help='seconds a frame, on average')
    parser.add_argument('--load-state', metavar='FILE', help='continue from a file of --save-state')
    parser.add_argument(
        '--save-state',
        metavar='FILE',
        help='file for the whole state at the end: learned parameters, optimizer, guard, random '
        'state',
    )
    parser.add_argument('--save-adapters', help='file for the meta networks at the end')
    parser.add_argument('--trust-checkpoint', action='store_true')
    parser.add_argument('--traceback', action='store_true', help='show the traceback of an error')
    for flag, text in PROCESS_FLAGS.items():
        parser.add_argument(flag, action='store_true', help=text)


def look_at_segmentor(args: argparse.Namespace) -> Config:
    """Reads the config and refuses wrong arguments, before torch is imported.

    Raises:
        ValueError: A file is missing, or an argument is wrong.
    """
    if (args.config is None) != (args.checkpoint is None):
        raise ValueError(
            'expected --config and --checkpoint together: the weights belong to the model of one '
            'config'
        )
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
    if args.load_state and not Path(args.load_state).is_file():
        raise ValueError(
            f'--load-state: expected a file that --save-state wrote, but {args.load_state} does '
            'not exist'
        )
    args.size = _size_of(args.size)
    if args.compute_budget is not None:
        parse_compute_budget(args.compute_budget)
    config = read_config(args.config or CONFIG)
    if args.method:
        with_method(config, args.method, CONFIGS)
    return config


def build_segmentor(args: argparse.Namespace, config: Config, keep_source: bool = False) -> Any:
    """Imports the libraries and builds the ``AdaptiveSegmentor`` that the arguments describe.

    Raises:
        ValueError: The arguments, the config and the files do not fit together.
    """
    load_package()
    import_custom_modules(config)
    from ..apis import init_adaptive_segmentor

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
        keep_source=keep_source,
        trust_checkpoint=args.trust_checkpoint,
        calibrate=args.calibrate,
        size=args.size,
        compute_budget=args.compute_budget,
    )
    if args.save_adapters and not segmentor.has_adapters:
        raise ValueError(
            f'--save-adapters: {args.method or args.config or CONFIG} adapts no meta networks'
        )
    if args.load_state:
        segmentor.load(args.load_state)
    return segmentor


class Progress:
    """Counts a segmentor's frames, updates and events since a tool began.

    The frames, updates and events in a loaded state do not count.

    Args:
        segmentor: An ``AdaptiveSegmentor``.
    """

    def __init__(self, segmentor: Any) -> None:
        self._segmentor = segmentor
        self._frames, self._updates = segmentor.frames, segmentor.updates

    @property
    def frames(self) -> int:
        """Number of processed frames."""
        return self._segmentor.frames - self._frames

    @property
    def updates(self) -> int:
        """Number of frames with an update."""
        return self._segmentor.updates - self._updates

    def events(self, what: str) -> list[str]:
        """Returns one line for each event; the line begins with ``what``, the word for a frame."""
        return [
            f'{what} {event["stream_index"]}: {event["event"]}, {event["reason"]}'
            for event in self._segmentor.events
            if event['stream_index'] >= self._frames
        ]


def save_segmentor(args: argparse.Namespace, segmentor: Any) -> None:
    """Writes the files of ``--save-adapters`` and ``--save-state``."""
    if args.save_adapters and segmentor.updates:
        segmentor.save_adapters(args.save_adapters)
    if args.save_state and segmentor.frames:
        segmentor.save(args.save_state)


def _size_of(text: Optional[str]) -> Any:
    """Parses ``--size`` to the argument ``size`` of ``init_adaptive_segmentor``."""
    if text in (None, 'frame', 'config'):
        return text
    found = re.fullmatch(r'([1-9][0-9]*),([1-9][0-9]*)', text)
    if not found:
        raise ValueError(
            "--size: expected 'frame', 'config' or height,width in pixels, such as 540,960, "
            f'got {text!r}'
        )
    return int(found[1]), int(found[2])
