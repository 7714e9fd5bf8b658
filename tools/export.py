"""Exports an adapted network to one file: python tools/export.py CONFIG CHECKPOINT --adapters FILE.

The file, ONNX or torch.export's, holds the whole network: mean and standard deviation of the input,
meta networks and the norms by the frame's statistics. Before the tool writes the file, it compares
the network with torch on 20 frames. docs/export.md lists the exact and the omitted parts.
"""

import argparse
import sys
from pathlib import Path

try:
    from ecotta_seg.cli.command_line import check_work_dir, run_tool, whole_number
    from ecotta_seg.cli.config_arguments import add_config_arguments, load_config, start_run
    from ecotta_seg.config.checks import require
    from ecotta_seg.config.method import with_method
    from ecotta_seg.startup.first_look import check_adapters, check_extra
except ImportError as error:  # A library of the stack is missing or too old.
    print(f'error: {error}', file=sys.stderr)
    raise SystemExit(2) from None

SUFFIXES = {'onnx': '.onnx', 'torch_export': '.pt2'}


def parse_args(argv: list[str]) -> argparse.Namespace:
    """Parses the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_config_arguments(parser)
    parser.add_argument('--adapters', metavar='FILE', help='warmed-up or saved meta networks')
    parser.add_argument(
        '--state',
        metavar='DIR',
        help='work dir of a run, or a file in its folder `state`: the learned state to export',
    )
    parser.add_argument(
        '--method',
        help='a file in configs/_base_/adaptation without its .py, or a file of your own with '
        ".py; default: the config's",
    )
    parser.add_argument('--format', choices=tuple(SUFFIXES), default='onnx')
    parser.add_argument('--out', metavar='FILE', help='default: WORK_DIR/network.onnx, or .pt2')
    parser.add_argument(
        '--half', action='store_true', help='weights and maps in float16; statistics in float32'
    )
    parser.add_argument(
        '--features',
        action='store_true',
        help="add the classifier's input to the outputs, for an adapter outside of the network",
    )
    parser.add_argument(
        '--strength',
        type=float,
        help='apply the meta networks with this strength (0 to 1) on every frame; default: the '
        "method's gate, which runs the frozen network at half size first",
    )
    parser.add_argument(
        '--fixed-size',
        action='store_true',
        help='accept only the size of the first frame; default: any height and width',
    )
    parser.add_argument(
        '--check',
        metavar='DIR',
        help="video or folder of pictures to compare with torch on; default: the config's test",
    )
    parser.add_argument(
        '--frames',
        type=whole_number(1),
        default=20,
        help='number of frames to compare on; default: 20',
    )
    parser.add_argument(
        '--tolerance',
        type=float,
        default=1e-4,
        help='the largest difference of two logits in float32; with --half it is 2 %% of the '
        'largest logit',
    )
    return parser.parse_args(argv)


def main(argv: list[str]) -> None:
    """Builds the method, exports its network, and compares the two."""
    args = parse_args(argv)
    if args.adapters:
        check_adapters(args.adapters)
    if args.check is not None and not Path(args.check).exists():
        raise ValueError(f'--check: expected a video or a folder of pictures, got {args.check}')
    if args.format == 'onnx':
        for library in ('onnx', 'onnxruntime'):
            check_extra('export', library, '--format onnx', module=library)
    cfg = load_config(args)
    require(cfg, 'model')
    if args.method:
        configs = Path(__file__).resolve().parents[1] / 'configs'
        with_method(cfg, args.method, configs, args.cfg_options)
    path = Path(args.out or Path(cfg.work_dir) / f'network{SUFFIXES[args.format]}')
    if path.is_dir():
        raise ValueError(f'--out: expected a file, but {path} is a folder')
    check_work_dir(str(path.parent), '--out')
    args.device = 'cpu'
    start_run(cfg, args)

    from ecotta_seg.deploy import export_from_config

    for line in export_from_config(cfg, path, args):
        print(line)


if __name__ == '__main__':
    sys.exit(run_tool(main))
