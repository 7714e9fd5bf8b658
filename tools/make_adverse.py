"""Writes a Cityscapes-layout dataset in fog, night, rain and snow, in ACDC's layout.

    python tools/make_adverse.py data/cityscapes data/cityscapes_adverse --severity 4

The result loads with ACDCDataset (data_root=OUT_ROOT, split=...), and its pixels are those that
the AdverseWeather transform makes on the fly.
"""

import argparse
import sys
from pathlib import Path

try:
    from ecotta_seg.cli.command_line import run_tool
    from ecotta_seg.cli.loading import load_package
    from ecotta_seg.startup.first_look import check_weather
except ImportError as error:  # A library of the stack is missing or too old.
    print(f'error: {error}', file=sys.stderr)
    raise SystemExit(2) from None


def parse_args(argv: list[str]) -> argparse.Namespace:
    """Parses the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('source', metavar='IN_ROOT', help='holds leftImg8bit/ and gtFine/')
    parser.add_argument('target', metavar='OUT_ROOT', help='new folder for rgb_anon/ and gt/')
    parser.add_argument('--severity', type=int, default=5, help='1 (light) to 5 (severe)')
    parser.add_argument(
        '--conditions', nargs='+', default=['fog', 'night', 'rain', 'snow'], metavar='NAME'
    )
    parser.add_argument('--splits', nargs='+', default=['val'], metavar='SPLIT')
    parser.add_argument('--seed', type=int, default=0, help='another seed, other weather')
    parser.add_argument(
        '--img-suffix', help='end of image names, _leftImg8bit.png or .jpg if found'
    )
    parser.add_argument(
        '--resume', action='store_true', help='continue where an earlier run stopped'
    )
    return parser.parse_args(argv)


def main(argv: list[str]) -> None:
    """Writes the dataset with a progress bar."""
    args = parse_args(argv)
    check_weather(args.conditions)
    for split in args.splits:
        folder = Path(args.source, 'leftImg8bit', split)
        if not folder.is_dir():
            raise ValueError(
                f'expected a data set in the layout of Cityscapes, but {folder} does not exist'
            )
    load_package()
    from mmengine.utils import ProgressBar

    from ecotta_seg.datasets.weather.adverse_writer import AdverseWriter

    writer = AdverseWriter(**vars(args))
    progress = ProgressBar(len(writer), file=sys.stdout)
    written = 0
    for new in writer.write():
        written += new
        progress.update()
    print(f'\n{written} frames written to {args.target}, {len(writer) - written} were there')


if __name__ == '__main__':
    sys.exit(run_tool(main))
