"""Trains a source model with mmengine's Runner: python tools/train.py CONFIG."""

import argparse
import sys

try:
    from ecotta_seg.cli.command_line import check_work_dir, run_tool
    from ecotta_seg.cli.config_arguments import (
        add_config_arguments,
        add_show_log,
        load_config,
        start_run,
    )
    from ecotta_seg.config.checks import check_data_root, require
except ImportError as error:  # A library of the stack is missing or too old.
    print(f'error: {error}', file=sys.stderr)
    raise SystemExit(2) from None


def parse_args(argv: list[str]) -> argparse.Namespace:
    """Parses the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_config_arguments(parser, checkpoint=False)
    add_show_log(parser)
    parser.add_argument('--resume', action='store_true', help='continue from the latest checkpoint')
    return parser.parse_args(argv)


def main(argv: list[str]) -> None:
    """Runs the training."""
    args = parse_args(argv)
    cfg = load_config(args)
    require(cfg, 'model', 'train_dataloader.dataset', 'train_cfg', 'optim_wrapper')
    check_data_root(cfg, 'train_dataloader.dataset')
    check_work_dir(cfg.work_dir)
    start_run(cfg, args)
    from mmengine.runner import Runner

    from ecotta_seg.distributed import end_launch
    from ecotta_seg.hooks.quiet_runner import QuietRunner

    cfg.resume = args.resume
    (Runner if args.show_log else QuietRunner).from_cfg(cfg).train()
    end_launch()


if __name__ == '__main__':
    sys.exit(run_tool(main))
