"""Compares runs on the same frames: python tools/compare.py WORK_DIR WORK_DIR ... [--out FILE].

The differences are to the first run. If the runs were made with --frame-areas, each difference has
a 95 % interval, by a bootstrap over frames. Runs on other frames, other data or labels at another
scale are refused.
"""

import argparse
import sys

try:
    from ecotta_seg.cli.command_line import run_tool, whole_number
    from ecotta_seg.cli.loading import load_package
    from ecotta_seg.startup.first_look import check_output, check_runs
except ImportError as error:  # A library of the stack is missing or too old.
    print(f'error: {error}', file=sys.stderr)
    raise SystemExit(2) from None


def parse_args(argv: list[str]) -> argparse.Namespace:
    """Parses the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('work_dirs', nargs='+', metavar='WORK_DIR', help='work dirs of the runs')
    parser.add_argument(
        '--out', metavar='FILE', default='comparison.html', help='default: comparison.html'
    )
    parser.add_argument(
        '--draws', type=whole_number(1), default=1000, help='draws of the bootstrap; default: 1000'
    )
    return parser.parse_args(argv)


def main(argv: list[str]) -> None:
    """Writes the page and prints the table."""
    args = parse_args(argv)
    check_runs(args.work_dirs, least=2)
    check_output(args.out, '--out')
    load_package()
    from ecotta_seg.report import compare_runs, print_comparison, write_comparison

    comparison = compare_runs(args.work_dirs, args.draws)
    path = write_comparison(comparison, args.out)
    print_comparison(comparison)
    print(f'the comparison is {path}')


if __name__ == '__main__':
    sys.exit(run_tool(main))
