"""Cuts weights of a trained network: python tools/sparsify.py CONFIG CHECKPOINT OUT --sparsity 0.5.

A few clear frames without labels suffice. OUT is a checkpoint with zeros, which all tools load in
place of CHECKPOINT. docs/sparsify.md has the method and what it costs.
"""

import argparse
import sys
from pathlib import Path

try:
    from ecotta_seg.cli.command_line import check_work_dir, run_tool, whole_number
    from ecotta_seg.cli.config_arguments import add_config_arguments, load_config, start_run
    from ecotta_seg.config.checks import check_data_root, require
    from ecotta_seg.names.choices import KEPT_LAYERS
    from ecotta_seg.startup.first_look import check_pictures
except ImportError as error:  # A library of the stack is missing or too old.
    print(f'error: {error}', file=sys.stderr)
    raise SystemExit(2) from None


def parse_args(argv: list[str]) -> argparse.Namespace:
    """Parses the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_config_arguments(parser)
    parser.add_argument('out', metavar='OUT', help='checkpoint to write')
    parser.add_argument(
        '--sparsity',
        type=float,
        help='share of the weights to cut, from 0 to below 1; each layer gets its own share',
    )
    parser.add_argument(
        '--pattern',
        choices=('2:4',),
        help='cut two of every four weights along the input channels, in place of --sparsity',
    )
    parser.add_argument(
        '--frames', type=whole_number(1), default=8, help='number of clear frames; default: 8'
    )
    parser.add_argument(
        '--calibrate',
        metavar='DIR',
        help='folder with pictures of clear weather, without labels; default: frames of the '
        "config's calibration_dataloader or forgetting_dataloader",
    )
    parser.add_argument(
        '--steps',
        type=whole_number(0),
        default=60,
        help='steps of the reconstruction of each block; 0 cuts by magnitude alone; default: 60',
    )
    parser.add_argument(
        '--generations',
        type=whole_number(0),
        default=5,
        help='generations of the search for the sparsity of each layer; 0 cuts the same share of '
        'each layer; default: 5',
    )
    parser.add_argument(
        '--keep',
        nargs='*',
        choices=KEPT_LAYERS,
        default=list(KEPT_LAYERS),
        help='layers that stay dense; default: all three kinds; none after --keep cuts all',
    )
    return parser.parse_args(argv)


def main(argv: list[str]) -> None:
    """Checks the arguments, then cuts and writes."""
    args = parse_args(argv)
    if (args.sparsity is None) == (args.pattern is None):
        raise ValueError(
            'expected either --sparsity with a number or --pattern 2:4, which always cuts half of '
            f'the weights; got {"neither" if args.pattern is None else "both"}'
        )
    if args.sparsity is not None and not 0 <= args.sparsity < 1:
        raise ValueError(
            '--sparsity: expected a share from 0 to below 1, such as 0.5 for half of the weights, '
            f'got {args.sparsity:g}'
        )
    out = Path(args.out)
    if out.is_dir():
        raise ValueError(f'OUT: expected a file, but {out} is a folder')
    check_pictures(args.calibrate)
    cfg = load_config(args)
    require(cfg, 'model')
    if out.exists() and out.samefile(args.checkpoint):
        raise ValueError(f'OUT: {out} is the dense checkpoint: write to another file')
    if args.calibrate is None:
        for loader in ('calibration_dataloader', 'forgetting_dataloader'):
            if (cfg.get(loader) or {}).get('dataset'):
                check_data_root(cfg, f'{loader}.dataset')
                break
    check_work_dir(str(out.resolve().parent), 'OUT')
    start_run(cfg, args)

    from ecotta_seg.sparsity import sparsify_from_config

    for line in sparsify_from_config(cfg, out, args):
        print(line, flush=True)


if __name__ == '__main__':
    sys.exit(run_tool(main))
