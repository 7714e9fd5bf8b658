r"""Chooses a method for a network, or none: python tools/choose.py CONFIG CHECKPOINT

The tool adds made weather of the realistic level to the clear labelled frames of the config's
forgetting_dataloader. It searches methods and rates on half of the frames, and confirms the best on
the other half. WORK_DIR/choice.md holds the choice with the expected gain and its interval, the
loss of the clear day, time and memory, or says that adapting does not pay; choice.json holds the
same. WORK_DIR/chosen.py is a preset:

python tools/test_tta.py CONFIG CHECKPOINT --method WORK_DIR/chosen.py

Each run has a folder in WORK_DIR/cells: the same command continues a stopped search. docs/choose.md
has an example.
"""

import argparse
import shlex
import sys
from pathlib import Path

try:
    from ecotta_seg.cli.command_line import check_work_dir, run_tool, whole_number
    from ecotta_seg.cli.config_arguments import add_config_arguments, load_config, start_run
    from ecotta_seg.cli.engine_arguments import (
        add_engine_arguments,
        check_engine,
        number_from_zero,
    )
    from ecotta_seg.config.checks import check_data_root, require
    from ecotta_seg.config.method import method_file
    from ecotta_seg.startup.first_look import check_extra, check_weather
except ImportError as error:  # A library of the stack is missing or too old.
    print(f'error: {error}', file=sys.stderr)
    raise SystemExit(2) from None

ROOT = Path(__file__).resolve().parents[1]


def parse_args(argv: list[str]) -> argparse.Namespace:
    """Parses the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_config_arguments(parser)
    parser.add_argument(
        '--methods', nargs='+', metavar='NAME',
        help='files in configs/_base_/adaptation without .py, or files of your own with .py; '
        'default: all but the slowest',
    )  # fmt: skip
    parser.add_argument(
        '--trials', type=whole_number(1), default=24,
        help='number of methods and rates to try, each method at least once; default: 24',
    )  # fmt: skip
    parser.add_argument(
        '--finalists', type=whole_number(1), default=3,
        help='number of them to confirm, one per method; default: 3',
    )  # fmt: skip
    parser.add_argument(
        '--frames', type=whole_number(8), default=40,
        help='number of clear frames to use, evenly spaced; default: 40',
    )  # fmt: skip
    parser.add_argument('--rounds', type=whole_number(1), default=3, help='default: 3')
    parser.add_argument(
        '--severity', type=int, choices=(1, 2, 3, 4, 5), default=3,
        help='severity of the made weather; default: 3, the realistic level',
    )  # fmt: skip
    parser.add_argument(
        '--conditions', nargs='+', metavar='NAME', default=['fog', 'night', 'rain', 'snow'],
        help='default: fog night rain snow',
    )  # fmt: skip
    parser.add_argument(
        '--max-clear-loss', type=number_from_zero, default=1.0, metavar='POINTS',
        help='mIoU that the clear day may lose; default: 1',
    )  # fmt: skip
    parser.add_argument(
        '--draws', type=whole_number(1), default=1000, help='draws of the bootstrap; default: 1000'
    )
    add_engine_arguments(parser)
    return parser.parse_args(argv)


def first_look(args: argparse.Namespace):
    """Reads the config; tells mistakes in the arguments before torch is imported."""
    check_engine(args)
    check_extra('choose', 'optuna', 'tools/choose.py', module='optuna')
    cfg = load_config(args)
    require(cfg, 'model', 'forgetting_dataloader.dataset')
    check_data_root(cfg, 'forgetting_dataloader.dataset')
    check_weather(args.conditions)
    for name in args.methods or ():
        method_file(name, ROOT / 'configs')
    check_work_dir(cfg.work_dir)
    return cfg


def main(argv: list[str]) -> None:
    """Searches, confirms and writes the choice."""
    args = parse_args(argv)
    cfg = first_look(args)
    start_run(cfg, args)
    from mmengine.logging import MMLogger

    from ecotta_seg import benchmark, choice
    from ecotta_seg.choice.candidates import METHODS
    from ecotta_seg.choice.report import Setting, sentences
    from ecotta_seg.choice.runs import Runs

    MMLogger.get_instance('mmengine', log_level='WARNING')
    configs, work_dir = ROOT / 'configs', Path(cfg.work_dir)
    methods = choice.candidate_methods(cfg, args.methods or METHODS, configs)
    streams = choice.write_streams(
        cfg, work_dir, args.frames, args.rounds, args.severity, args.conditions
    )
    with benchmark.engine(args) as execute:
        runs = Runs(
            args.checkpoint, work_dir, configs, ROOT / 'tools' / 'test_tta.py', execute,
            args.device, args.max_clear_loss, args.draws,
        )  # fmt: skip
        at_once = benchmark.runs_at_once(args)
        print(f'searching on {streams.frames[0]} clear frames', flush=True)
        scores = choice.search(
            methods,
            lambda found: runs.scores(found, streams.search),
            max(args.trials, len(methods)),
            at_once,
        )
        if not any(score is not None for score in scores.values()):
            raise ValueError(
                'no run finished, so there is no choice; the first error: '
                f'{next(iter(runs.errors.values()))}'
            )
        print(f'confirming on {streams.frames[1]} other clear frames', flush=True)
        finalists = runs.finalists(scores, streams.confirm, args.finalists)
    decision = choice.decide(finalists, args.max_clear_loss)
    setting = Setting(
        args.config, args.checkpoint, args.severity, args.rounds, args.conditions, streams.frames,
        shlex.join(['python', 'tools/choose.py', *argv]),
    )  # fmt: skip
    preset = choice.write_choice(work_dir, decision, scores, runs.errors, setting, cfg, configs)
    print('\n'.join(sentences(decision)))
    print(f'the choice is in {preset.parent / "choice.md"}; --method {preset} takes it')


if __name__ == '__main__':
    sys.exit(run_tool(main))
