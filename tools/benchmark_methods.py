r"""Compares methods: python tools/benchmark_methods.py --model ... --methods ... [--streams ...]

python tools/benchmark_methods.py --model r18 configs/camvid_severe.py CHECKPOINT \
    --methods source batch_norm_statistics tent eata sar cotta:views=1 ecotta ecotta_plus \
    --streams continual ramp mixed --seeds 0 1 2 --rounds 10 --work-dir work_dirs/benchmark

Each run is a call of tools/test_tta.py in WORK_DIR/cells/MODEL/STREAM/METHOD/seedN. The tool skips
finished runs and resumes interrupted ones; if a run fails, the others continue and the report lists
it. A run with other settings (or another checkpoint) in this folder is renamed to seedN.before_1.
WORK_DIR/benchmark.md, .csv, .json, cells.csv, paired.csv, rounds.png and memory.png hold the
results. A method may carry options of its own: tent:optimizer.lr=1e-3, and warmed-up meta networks:
ecotta_plus:adapters=FILE. A seed sets the weather, the order of a mixed stream and all random
generators.

--dry-run lists the progress of each run: done, started (resumes), new, or other (has other
settings: would be renamed and run again). --engine ray executes many runs in parallel, on this
machine or on a cluster: see docs/many_machines.md. The exit code is 0, 1 if a run failed, 2 for a
mistake in the command, 130 after Ctrl-C.
"""

import argparse
import shlex
import sys
from pathlib import Path

try:
    from ecotta_seg.cli.command_line import check_work_dir, run_tool, whole_number
    from ecotta_seg.cli.engine_arguments import add_engine_arguments, check_engine
    from ecotta_seg.cli.loading import load_package
    from ecotta_seg.config.method import known_methods, method_file
    from ecotta_seg.names.choices import STREAMS
    from ecotta_seg.startup.first_look import check_adapters, check_checkpoint
    from ecotta_seg.startup.stack import force_safe_loading
    from ecotta_seg.startup.zoo_names import own_config
except ImportError as error:  # A library of the stack is missing or too old.
    print(f'error: {error}', file=sys.stderr)
    raise SystemExit(2) from None

ROOT = Path(__file__).resolve().parents[1]


def parse_args(argv: list[str]) -> argparse.Namespace:
    """Parses the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        '--model', nargs=3, action='append', required=True,
        metavar=('NAME', 'CONFIG', 'CHECKPOINT'),
        help='a source model; may be given again. CONFIG is a file or ecotta_seg::demo.py',
    )  # fmt: skip
    parser.add_argument(
        '--methods', nargs='+', required=True,
        help='files in configs/_base_/adaptation without .py, or files of your own with .py, each '
        'with its options after a colon',
    )  # fmt: skip
    parser.add_argument(
        '--streams', nargs='+', choices=sorted(STREAMS), default=['continual'],
        help='orders of the frames; default: continual',
    )  # fmt: skip
    parser.add_argument('--seeds', nargs='+', type=whole_number(0), default=[0], help='default: 0')
    parser.add_argument('--rounds', type=whole_number(1), help="default: the config's")
    parser.add_argument(
        '--views', type=whole_number(1), help='views a frame for every method, see test_tta.py'
    )
    parser.add_argument(
        '--adapters', nargs=3, action='append', default=[], metavar=('MODEL', 'METHOD', 'FILE'),
        help='warmed-up meta networks of a model and a method, named as above',
    )  # fmt: skip
    parser.add_argument(
        '--work-dir', default='work_dirs/benchmark', help='default: work_dirs/benchmark'
    )
    parser.add_argument('--device', choices=('cpu', 'cuda'), help='default: CUDA if available')
    parser.add_argument('--cfg-options', nargs='+', default=[], help='key=value, for every run')
    parser.add_argument(
        '--draws', type=whole_number(1), default=1000,
        help='draws of the bootstrap of differences to the source; default: 1000',
    )  # fmt: skip
    parser.add_argument(
        '--collect', action='store_true',
        help='include in the report the runs that earlier calls finished in this work dir',
    )  # fmt: skip
    add_engine_arguments(parser)
    parser.add_argument(
        '--dry-run', action='store_true', help='list the runs and the progress of each, run nothing'
    )
    return parser.parse_args(argv)


def main(argv: list[str]) -> None:
    """Executes the runs and writes the report."""
    args = parse_args(argv)
    check_engine(args)
    args.model = [(name, own_config(config) or config, path) for name, config, path in args.model]
    for _, config, checkpoint in args.model:
        if not Path(config).is_file():
            raise ValueError(f'expected a config file, but {config} does not exist')
        check_checkpoint(checkpoint)
    for text in args.methods:
        method_file(text.partition(':')[0], ROOT / 'configs')
    for _, _, adapters in args.adapters:
        check_adapters(adapters)
    work_dir = Path(args.work_dir) if args.dry_run else check_work_dir(args.work_dir)
    force_safe_loading()
    load_package()
    from mmengine.logging import MMLogger

    from ecotta_seg import benchmark
    from ecotta_seg.benchmark.runs import run_settings

    # Reading configs tells of the environment each time.
    MMLogger.get_instance('mmengine', log_level='WARNING')
    configs = ROOT / 'configs'
    known = known_methods(configs)
    runs = benchmark.make_runs(
        [benchmark.ModelSpec(*model) for model in args.model],
        [benchmark.MethodSpec.parse(text, known) for text in args.methods],
        args.streams,
        args.seeds,
        {(model, method): path for model, method, path in args.adapters},
        rounds=args.rounds,
        views=args.views,
        options=tuple(args.cfg_options),
        device=args.device,
    )
    if args.dry_run:
        for run in runs:
            folder = benchmark.run_folder(run, args.work_dir)
            status = benchmark.run_status(folder, run_settings(run, configs))
            print(f'{status:8} {run}')
        return
    command = shlex.join(['python', 'tools/benchmark_methods.py', *argv])
    if args.collect:
        command += '    # and what earlier calls finished'
    # What lies there of other settings is none of this report's, until the run is done.
    others = {run: 'not run yet' for run in runs if benchmark.holds_others(run, work_dir, configs)}
    errors = {}

    def report() -> list[dict]:
        records = benchmark.read_runs(runs, {**others, **errors}, work_dir)
        if args.collect:
            records += benchmark.collect_runs(work_dir, records)
        benchmark.write_report(records, work_dir, command, args.draws)
        return records

    def after_each(run, outcome) -> None:
        others.pop(run, None)
        if outcome.error:
            errors[run] = outcome.error
        report()

    place = (work_dir, configs, ROOT / 'tools' / 'test_tta.py')
    with benchmark.engine(args) as execute:
        execute(runs, *place, after_each)
    entries = benchmark.aggregate(report(), args.draws)
    if entries:
        benchmark.plot_rounds(entries, work_dir / 'rounds.png')
        benchmark.plot_memory(entries, work_dir / 'memory.png')
    print(f'the report is in {work_dir / "benchmark.md"}')
    if errors:
        print(
            f'{len(errors)} of {len(runs)} runs failed, see the end of the report', file=sys.stderr
        )
        raise SystemExit(1)


if __name__ == '__main__':
    sys.exit(run_tool(main))
