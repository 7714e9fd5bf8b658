"""Adapts a source model through a stream and scores it: python tools/test_tta.py CONFIG CHECKPOINT.

"tta" here is test-time *adaptation*: the model learns from each unlabelled frame that it
predicts. (In OpenMMLab's own tools, TTA is test-time augmentation.)
The table on screen is also in WORK_DIR/results.json and results.csv. WORK_DIR/report.html shows the
run on one page.
"""

import argparse
import sys
from pathlib import Path

try:
    from ecotta_seg.cli.command_line import check_work_dir, run_tool, whole_number
    from ecotta_seg.cli.config_arguments import (
        add_config_arguments,
        add_show_log,
        load_config,
        start_run,
    )
    from ecotta_seg.config.checks import check_data_root, require
    from ecotta_seg.config.config import with_calibration, with_reporting, with_resume
    from ecotta_seg.config.method import (
        with_adapters,
        with_compute_budget,
        with_memory_budget,
        with_method,
        with_seed,
    )
    from ecotta_seg.config.report import with_report
    from ecotta_seg.config.stream import with_frames, with_stream, without_missing_clear_day
    from ecotta_seg.names.choices import MASK_FORMATS, MASK_SIZES, STREAMS
    from ecotta_seg.names.type_names import is_a
    from ecotta_seg.startup.first_look import check_adapters, check_pictures, check_recording
except ImportError as error:  # A library of the stack is missing or too old.
    print(f'error: {error}', file=sys.stderr)
    raise SystemExit(2) from None


def parse_args(argv: list[str]) -> argparse.Namespace:
    """Parses the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_config_arguments(parser)
    add_show_log(parser)
    parser.add_argument(
        '--method',
        help='adaptation method, a file in configs/_base_/adaptation without its .py, or a file of '
        'your own with .py',
    )
    parser.add_argument('--adapters', help='warmed-up meta networks, from tools/warm_up.py')
    parser.add_argument(
        '--calibrate', metavar='DIR',
        help='folder with a dozen pictures of clear weather, without labels, to calibrate the '
        "method on; default: frames of the config's calibration_dataloader or "
        'forgetting_dataloader',
    )  # fmt: skip
    parser.add_argument(
        '--memory-budget',
        help="memory limit of a step above parameters and adapters: '600MB', or '1.0x' times "
        "stock inference's peak; only for methods that learn by gradients",
    )
    parser.add_argument(
        '--compute-budget',
        help="limit of the mean arithmetic of a frame: '1.5x' times stock inference's; the method "
        'learns from as many frames as fit',
    )
    parser.add_argument(
        '--rounds', type=whole_number(1), help='number of rounds through all conditions'
    )
    parser.add_argument(
        '--stream',
        choices=sorted(STREAMS),
        help='continual: one condition after the other; ramp: each builds up and clears again; '
        'mixed: the condition changes from frame to frame',
    )
    parser.add_argument(
        '--stream-seed',
        type=whole_number(0),
        help='seed of the weather in the frames and of the order of a mixed stream',
    )
    parser.add_argument(
        '--conditions', nargs='+', metavar='NAME', help='conditions, in the order of the stream'
    )
    parser.add_argument('--split', help='split of the data set inside the stream, such as val')
    parser.add_argument(
        '--frames',
        type=whole_number(1),
        help='frames of each condition, evenly spaced: a first run in minutes',
    )
    parser.add_argument(
        '--views',
        type=whole_number(1),
        help='average the predictions of this many views of each frame (1 to 14), for each '
        'method and the source: the frame, its mirror image, then both at the scales 0.5, 0.75, '
        "1.25, 1.5, 1.75 and 2. Learning is unchanged: the views that CoTTA's labels are made of "
        'are its own, --cfg-options adaptation.views=N',
    )
    parser.add_argument(
        '--resume', action='store_true', help='continue from the newest state in the work dir'
    )
    parser.add_argument(
        '--frame-areas',
        action='store_true',
        help='keep the class areas of each scored frame, of the method and the source, in '
        'WORK_DIR/frame_areas.jsonl',
    )
    parser.add_argument(
        '--show-dir', help='folder for pictures of the masks; implies --report-pictures'
    )
    parser.add_argument(
        '--report-pictures',
        action='store_true',
        help='show the best and the worst frame of each condition in WORK_DIR/report.html; it '
        'then has pictures of the data, and the source runs once more on each frame that is kept',
    )
    parser.add_argument(
        '--out',
        metavar='DIR',
        help='write the mask of each frame to DIR/round_N/CONDITION/FRAME.png',
    )
    parser.add_argument(
        '--out-format',
        choices=MASK_FORMATS,
        help="content of the --out masks: train ids (default), Cityscapes' label ids, or colours",
    )
    parser.add_argument(
        '--out-size',
        choices=MASK_SIZES,
        help='size of the --out masks: of the image file and its label (default), or of the '
        'frame that the model saw',
    )
    parser.add_argument(
        '--out-source',
        action='store_true',
        help="write the source model's masks to DIR/source/CONDITION as well; that runs the source "
        'once more on each frame of round 1',
    )
    parser.add_argument(
        '--rerun',
        metavar='FILE.rrd',
        help='record frames, masks and curves for the Rerun viewer',
    )
    parser.add_argument(
        '--strict',
        action='store_true',
        help='stop at the first bad frame; by default bad frames with a picture are predicted, '
        'no bad frame is learned from, and the results list them',
    )
    return parser.parse_args(argv)


def first_look(args: argparse.Namespace):
    """Puts the arguments into the config; tells mistakes in them before torch is imported."""
    if args.adapters:
        check_adapters(args.adapters)
    check_pictures(args.calibrate)
    check_recording(args.rerun)
    if not args.out and (args.out_format or args.out_size or args.out_source):
        raise ValueError('--out-format, --out-size and --out-source need --out DIR')
    cfg = load_config(args)
    require(cfg, 'model', 'test_dataloader.dataset')
    if args.method:
        configs = Path(__file__).resolve().parents[1] / 'configs'
        with_method(cfg, args.method, configs, args.cfg_options)
    if cfg.get('adaptation') is None:
        raise ValueError(f'{args.config} has no `adaptation`: name a method with --method')
    if args.seed is not None:
        with_seed(cfg, args.seed)
    if args.stream is not None or args.stream_seed is not None:
        with_stream(cfg, args.stream, args.stream_seed)
    with_frames(cfg, args.conditions, args.split, args.frames)
    left_out = None if args.strict else without_missing_clear_day(cfg)
    if left_out:
        print(f'note: {left_out}', file=sys.stderr)
    if args.adapters:
        with_adapters(cfg.adaptation, args.adapters)
    if args.memory_budget is not None:
        with_memory_budget(cfg.adaptation, args.memory_budget)
    if args.compute_budget is not None:
        with_compute_budget(cfg.adaptation, args.compute_budget)
    if args.rounds:
        if 'rounds' not in cfg.test_dataloader.dataset:
            raise ValueError('--rounds needs a ContinualStream as the test data set')
        cfg.test_dataloader.dataset.rounds = args.rounds
    check_data_root(cfg, 'test_dataloader.dataset')
    if (cfg.get('forgetting_dataloader') or {}).get('dataset'):
        check_data_root(cfg, 'forgetting_dataloader.dataset')
    for option, folder in (
        ('--work-dir', cfg.work_dir),
        ('--show-dir', args.show_dir),
        ('--out', args.out),
        ('--rerun', args.rerun and str(Path(args.rerun).resolve().parent)),
    ):
        if folder:
            check_work_dir(folder, option)
    return cfg


def main(argv: list[str]) -> None:
    """Builds the run's config and tests."""
    args = parse_args(argv)
    cfg = first_look(args)
    start_run(cfg, args)
    from mmengine.model import is_model_wrapper
    from mmengine.runner import Runner

    from ecotta_seg.distributed import end_launch
    from ecotta_seg.files.checkpoint import load_source
    from ecotta_seg.hooks.quiet_runner import QuietRunner
    from ecotta_seg.inference.views import prediction_views
    from ecotta_seg.masks import MaskFolder

    if args.views:
        prediction_views(args.views)
        cfg.views = args.views
    with_reporting(cfg)
    if args.calibrate is not None:
        with_calibration(cfg, args.calibrate)
    if args.strict:
        others = [hook for hook in cfg.custom_hooks if not is_a(hook, 'FrameCheckHook')]
        cfg.custom_hooks = [*others, dict(type='FrameCheckHook', mode='strict')]
        frames = cfg.test_dataloader.dataset.get('dataset')
        if frames is not None:
            frames.setdefault('missing_labels', 'error')
    if args.show_dir:
        cfg.custom_hooks = [*cfg.custom_hooks, dict(type='PanelHook', show_dir=args.show_dir)]
    if args.out:
        if not args.resume:
            MaskFolder(args.out).refuse_other_run()
        options = dict(out_format=args.out_format, size=args.out_size)
        options = {key: value for key, value in options.items() if value is not None}
        hook = dict(type='MasksHook', out_dir=args.out, source=args.out_source, **options)
        cfg.custom_hooks = [*cfg.custom_hooks, hook]
    if args.rerun:
        cfg.custom_hooks = [*cfg.custom_hooks, dict(type='RerunHook', path=args.rerun)]
    with_report(cfg, args.checkpoint, args.report_pictures)
    if args.frame_areas:
        cfg.custom_hooks = [*cfg.custom_hooks, dict(type='FrameAreasHook')]
    for key in ('train_dataloader', 'train_cfg', 'optim_wrapper', 'param_scheduler'):
        cfg[key] = None
    for key in ('val_dataloader', 'val_cfg', 'val_evaluator'):
        cfg[key] = None
    cfg.load_from, cfg.resume = None, False
    if args.resume:
        with_resume(cfg)
    runner = (Runner if args.show_log else QuietRunner).from_cfg(cfg)
    model = runner.model.module if is_model_wrapper(runner.model) else runner.model
    load_source(model, args.checkpoint, args.trust_checkpoint)
    runner.test()
    end_launch()


if __name__ == '__main__':
    sys.exit(run_tool(main))
