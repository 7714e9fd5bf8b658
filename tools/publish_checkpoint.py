"""Strips a training checkpoint to its weights: python tools/publish_checkpoint.py IN OUT."""

import argparse
import sys

try:
    from ecotta_seg.cli.command_line import run_tool
    from ecotta_seg.cli.loading import load_package
    from ecotta_seg.startup.first_look import check_checkpoint, check_output
except ImportError as error:  # A library of the stack is missing or too old.
    print(f'error: {error}', file=sys.stderr)
    raise SystemExit(2) from None


def parse_args(argv: list[str]) -> argparse.Namespace:
    """Parses the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('source', metavar='IN', help='checkpoint of a training')
    parser.add_argument('target', metavar='OUT', help='file to write')
    parser.add_argument(
        '--half', action='store_true', help='store floating-point numbers in half precision'
    )
    parser.add_argument(
        '--trust-checkpoint',
        action='store_true',
        help='load a checkpoint even if that runs code in it; only for files of your own',
    )
    return parser.parse_args(argv)


def main(argv: list[str]) -> None:
    """Writes the weights and the names of the classes, and nothing else."""
    args = parse_args(argv)
    check_checkpoint(args.source)
    check_output(args.target, 'OUT')
    load_package()
    from ecotta_seg.files.checkpoint import read_checkpoint
    from ecotta_seg.files.torch_file import save_whole

    checkpoint = read_checkpoint(args.source, args.trust_checkpoint)
    meta = checkpoint.get('meta') or {}
    dataset = meta.get('dataset_meta') or {}
    kept = {key: dataset[key] for key in ('classes', 'palette') if key in dataset}
    weights = {key: value.clone() for key, value in checkpoint['state_dict'].items()}
    if args.half:
        weights = {k: v.half() if v.is_floating_point() else v for k, v in weights.items()}
        beyond = [k for k, v in weights.items() if not v.isfinite().all()]
        if beyond:
            raise ValueError(f'{beyond[0]} has numbers beyond half precision: leave out --half')
    save_whole({'state_dict': weights, 'meta': {'dataset_meta': kept}}, args.target)


if __name__ == '__main__':
    sys.exit(run_tool(main))
