"""Warms up meta networks on source data: python tools/warm_up.py CONFIG CHECKPOINT.

The source model stays frozen. WORK_DIR/adapters.pth holds the meta networks and the method's
calibration on clear frames of the training set. Pass the file to tools/test_tta.py as --adapters.
"""

import argparse
import sys
from copy import deepcopy
from pathlib import Path

try:
    from ecotta_seg.cli.command_line import check_work_dir, run_tool
    from ecotta_seg.cli.config_arguments import (
        add_config_arguments,
        add_show_log,
        load_config,
        start_run,
    )
    from ecotta_seg.config.checks import check_data_root, require
    from ecotta_seg.config.method import with_meta_networks, with_method
    from ecotta_seg.startup.first_look import check_pictures
except ImportError as error:  # A library of the stack is missing or too old.
    print(f'error: {error}', file=sys.stderr)
    raise SystemExit(2) from None


def parse_args(argv: list[str]) -> argparse.Namespace:
    """Parses the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_config_arguments(parser)
    add_show_log(parser)
    parser.add_argument(
        '--method',
        help='method whose meta networks are warmed up, a file in configs/_base_/adaptation '
        "without its .py; default: the config's",
    )
    parser.add_argument(
        '--calibrate',
        metavar='DIR',
        help='folder with a dozen pictures of clear weather, without labels, to calibrate the '
        "method on; default: the config's calibration_dataloader, or its training set",
    )
    parser.add_argument('--resume', action='store_true', help='continue from the latest checkpoint')
    return parser.parse_args(argv)


def main(argv: list[str]) -> None:
    """Builds the warm-up's config from the adaptation's and runs it."""
    args = parse_args(argv)
    check_pictures(args.calibrate)
    cfg = load_config(args)
    if args.method:
        configs = Path(__file__).resolve().parents[1] / 'configs'
        with_method(cfg, args.method, configs, args.cfg_options)
    adaptation = with_meta_networks(cfg.get('adaptation'))
    if adaptation is None:
        raise ValueError(
            f'{args.method or args.config} has no meta networks to warm up: expected an '
            "`adaptation` with `meta_networks`, such as type='ecotta'"
        )
    require(cfg, 'model', 'train_dataloader.dataset', 'train_cfg', 'optim_wrapper')
    check_data_root(cfg, 'train_dataloader.dataset')
    check_work_dir(cfg.work_dir)
    start_run(cfg, args)
    from mmengine.runner import Runner

    from ecotta_seg.distributed import end_launch
    from ecotta_seg.hooks.calibration import clear_training_loader, frame_steps
    from ecotta_seg.hooks.quiet_runner import QuietRunner
    from ecotta_seg.methods.build import method_class

    segmentor = deepcopy(cfg.model)
    # mmengine hands a top-level preprocessor to the outermost model; here that is the wrapper.
    preprocessor = cfg.pop('data_preprocessor', None)
    if preprocessor is not None:
        segmentor.setdefault('data_preprocessor', preprocessor)
    cfg.model = dict(
        type=method_class(adaptation.get('type')).warm_up_model,
        segmentor=segmentor,
        checkpoint=args.checkpoint,
        meta_networks=adaptation.meta_networks,
        frozen_norm=adaptation.get('frozen_norm'),
        trust_checkpoint=args.trust_checkpoint,
    )
    warm_up = dict(
        type='WarmUpHook',
        adaptation=adaptation,
        calibrate=args.calibrate,
        steps=frame_steps(cfg),
        loaders=[cfg.get('calibration_dataloader'), clear_training_loader(cfg)],
    )
    cfg.custom_hooks = [warm_up, dict(type='SafeCheckpointHook')]
    for key in ('test_dataloader', 'test_evaluator', 'test_cfg'):
        cfg[key] = None
    cfg.load_from, cfg.resume = None, args.resume
    (Runner if args.show_log else QuietRunner).from_cfg(cfg).train()
    end_launch()


if __name__ == '__main__':
    sys.exit(run_tool(main))
