"""Measures memory and time: python tools/benchmark_memory.py CONFIG --size H W [--json FILE].

python tools/benchmark_memory.py configs/acdc_ecotta.py --size 512 1024 --json memory.json \
    --plot memory.png --budgets 1.25x 1.0x 0.8x

One table compares stock inference, full fine-tuning, Tent, CoTTA with one view and EcoTTA, each by
plain and by lean autograd, and EcoTTA by the memory engine: the fastest step, then one for each
budget. The table shows the peak bytes of a step, the bytes in all, seconds, and the ratios to stock
inference. ``--methods`` takes any other method, too: ``roid`` or ``tent:optimizer.lr=1e-3``.
Without a checkpoint the weights are random. docs/memory.md defines the numbers.
"""

import argparse
import sys
from collections.abc import Iterable
from pathlib import Path

try:
    from mmengine.config import Config

    from ecotta_seg.cli.command_line import run_tool, whole_number
    from ecotta_seg.cli.config_arguments import add_config_arguments, load_config, start_run
    from ecotta_seg.config.config import read_config
    from ecotta_seg.config.method import (
        known_methods,
        method_name,
        with_adapters,
        with_meta_networks,
        with_method,
    )
    from ecotta_seg.config.options import parse_value
    from ecotta_seg.startup.first_look import check_output
    from ecotta_seg.startup.memory_budget import parse_budget
except ImportError as error:  # A library of the stack is missing or too old.
    print(f'error: {error}', file=sys.stderr)
    raise SystemExit(2) from None

CONFIGS = Path(__file__).resolve().parents[1] / 'configs'
# By the memory engine, so that budgets can be asked for.
_ENGINE_METHODS = ('ecotta', 'ecotta_plus')


def size(text: str) -> tuple[int, int]:
    """An argparse type: HEIGHTxWIDTH."""
    sides = text.lower().split('x')
    if len(sides) != 2:
        raise argparse.ArgumentTypeError(f'expected HEIGHTxWIDTH, got {text!r}')
    return tuple(map(whole_number(32), sides))


def parse_args(argv: list[str]) -> argparse.Namespace:
    """Parses the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_config_arguments(parser, checkpoint=False)
    parser.add_argument('checkpoint', nargs='?', help='weights; default: random weights')
    parser.add_argument('--trust-checkpoint', action='store_true', help='see tools/test_tta.py')
    parser.add_argument(
        '--size', nargs=2, type=whole_number(32), required=True, metavar=('H', 'W'),
        help='height and width of the frame that the network gets',
    )  # fmt: skip
    parser.add_argument('--json', help='file for the numbers')
    parser.add_argument('--plot', help='file for a picture')
    parser.add_argument(
        '--budgets', nargs='*', default=['1.25x', '1.0x'],
        help="such as 1.25x (times stock inference's peak) or 600MB",
    )  # fmt: skip
    parser.add_argument(
        '--methods', nargs='+', metavar='NAME',
        help='rows beside inference: tent_plain, tent, full, cotta_plain, cotta, ecotta_plain, '
        'ecotta_lean, ecotta; or a file in configs/_base_/adaptation without .py, or the path of '
        'such a file, each with options: roid ladder:meta_networks.open_parts=2',
    )  # fmt: skip
    parser.add_argument('--repeats', type=whole_number(1), default=5, help='timed steps a row')
    parser.add_argument(
        '--compare', action='store_true',
        help="EcoTTA's step by plain autograd, by mmseg's with_cp and by torch.compile as well",
    )  # fmt: skip
    parser.add_argument(
        '--activation-budgets', type=float, nargs='*', default=[1.0, 0.5, 0.2, 0.0],
        metavar='SHARE', help='of torch.compile in --compare, 0 to 1; compiling takes minutes each',
    )  # fmt: skip
    parser.add_argument(
        '--sweep', action='store_true', help='predict peaks over frame sizes and K as well'
    )
    parser.add_argument(
        '--sweep-sizes', nargs='+', type=size, metavar='HxW',
        help='default: half, three quarters and all of --size',
    )  # fmt: skip
    parser.add_argument(
        '--sweep-parts', nargs='+', type=whole_number(1), default=[2, 3, 4, 5], metavar='K'
    )
    return parser.parse_args(argv)


def presets(cfg) -> dict:
    """Options of the methods: the config's own EcoTTA, else the preset; the others' presets."""
    folder = CONFIGS / '_base_' / 'adaptation'
    own = with_meta_networks(cfg.get('adaptation'))
    if own is None or method_name(own) not in _ENGINE_METHODS:
        with_method(cfg, 'ecotta', CONFIGS)
        own = cfg.adaptation
    found = {name: read_config(folder / f'{name}.py').adaptation for name in ('tent', 'cotta')}
    return {name: options.to_dict() for name, options in dict(found, ecotta=own).items()}


def other_presets(names: Iterable[str], rows: Iterable[str]) -> dict[str, dict]:
    """Options of the methods that have no row of their own, by the name as given.

    Raises:
        ValueError: A method is unknown, or has no such option.
    """
    from ecotta_seg.benchmark.runs import MethodSpec

    known = [*rows, *known_methods(CONFIGS)]
    found = {}
    for name in names:
        if name in rows:
            continue
        spec = MethodSpec.parse(name, known)
        cfg = Config()
        given = dict(option.split('=', 1) for option in spec.options)
        options = {f'adaptation.{key}': parse_value(value) for key, value in given.items()}
        with_method(cfg, spec.name, CONFIGS, options)
        if spec.adapters:
            with_adapters(cfg.adaptation, spec.adapters)
        found[name] = cfg.adaptation.to_dict()
    return found


def main(argv: list[str]) -> None:
    """Measures, shows and writes."""
    args = parse_args(argv)
    cfg = load_config(args)
    for budget in args.budgets:
        parse_budget(budget, 1)
    for option, path in (('--json', args.json), ('--plot', args.plot)):
        if path:
            check_output(path, option)
    start_run(cfg, args)
    import torch
    from mmengine.logging import MMLogger
    from mmseg.utils import register_all_modules

    from ecotta_seg.benchmark import (
        memory_model,
        memory_plot,
        memory_report,
        memory_rows,
        pytorch_comparison,
    )
    from ecotta_seg.benchmark.memory_sweep import sweep
    from ecotta_seg.memory import meter_name

    register_all_modules(init_default_scope=False)
    MMLogger.get_instance('mmengine', log_level='WARNING')
    options = presets(cfg)
    methods = args.methods or memory_model.METHODS
    others = other_presets(methods, memory_model.METHODS)
    candidates = memory_model.make_candidates(options, args.budgets, methods, others)
    device = 'cuda' if args.device != 'cpu' and torch.cuda.is_available() else 'cpu'
    seed = args.seed or 0
    frame = memory_model.make_frame(*args.size, device, seed, memory_model.channels_of(cfg))
    source = memory_model.ModelSource(cfg, frame, args.checkpoint, args.trust_checkpoint, seed)

    def progress(name: str) -> None:
        print(f'... {name}', file=sys.stderr, flush=True)

    rows = memory_rows.measure_rows(source, frame, candidates, args.repeats, progress)
    document = dict(
        config=str(args.config), checkpoint=args.checkpoint, size=list(args.size), device=device,
        meter=meter_name(device), torch=torch.__version__, threads=torch.get_num_threads(),
        repeats=args.repeats, seed=seed, ecotta=options['ecotta'], rows=rows,
    )  # fmt: skip
    if args.sweep:
        height, width = args.size
        sizes = args.sweep_sizes or [
            (max(32, height * n // 4), max(32, width * n // 4)) for n in (2, 3, 4)
        ]
        document['sweep'] = sweep(
            source, options['ecotta'], sizes, args.sweep_parts, args.budgets, progress
        )
    if args.compare:
        variants = pytorch_comparison.variants(args.budgets, args.activation_budgets)
        document['comparison'] = pytorch_comparison.compare(
            source, frame, memory_model.without_budget(options['ecotta']), variants, args.repeats,
            progress=progress,
        )  # fmt: skip
    if args.json:
        memory_report.write_memory_json(document, args.json)
    if args.plot:
        memory_plot.plot_memory_rows(document, args.plot)
    memory_report.print_memory_tables(document)


if __name__ == '__main__':
    sys.exit(run_tool(main))
