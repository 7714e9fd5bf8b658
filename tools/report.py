"""Writes the report of a run again: python tools/report.py WORK_DIR [--out FILE].

tools/test_tta.py writes WORK_DIR/report.html at the end of a run. This tool makes the report
from the files in the work dir. If the run has not ended, the report shows its newest saved state.
"""

import argparse
import sys

try:
    from ecotta_seg.cli.command_line import run_tool
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
    parser.add_argument('work_dir', help='work dir of a run')
    parser.add_argument('--out', metavar='FILE', help='default: WORK_DIR/report.html')
    return parser.parse_args(argv)


def main(argv: list[str]) -> None:
    """Writes the report."""
    args = parse_args(argv)
    check_runs([args.work_dir])
    if args.out:
        check_output(args.out, '--out')
    load_package()
    from ecotta_seg.report import write_report

    print(f'the report is {write_report(args.work_dir, args.out)}')


if __name__ == '__main__':
    sys.exit(run_tool(main))
