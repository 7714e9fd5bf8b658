"""Makes the archive that an evaluation server takes: python tools/make_submission.py MASKS OUT.zip.

MASKS is the --out folder of tools/test_tta.py. The tool checks the archive against the server's
rules before it writes the file; docs/masks.md names the source of the rules.
"""

import argparse
import sys

try:
    from ecotta_seg.cli.command_line import run_tool
    from ecotta_seg.names.choices import SERVER_NAMES
except ImportError as error:  # A library of the stack is missing or too old.
    print(f'error: {error}', file=sys.stderr)
    raise SystemExit(2) from None


def parse_args(argv: list[str]) -> argparse.Namespace:
    """Parses the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('masks', nargs='?', help='folder with the masks of a run')
    parser.add_argument('archive', help='.zip file to write, or with --check to check')
    parser.add_argument('--server', required=True, choices=SERVER_NAMES)
    parser.add_argument(
        '--part', help="'round_1' and so on, or 'source'; default: the round, if there is only one"
    )
    parser.add_argument(
        '--images',
        metavar='DIR',
        help='folder with the images of the test split: each must have its mask; default: the '
        'number of masks is checked',
    )
    parser.add_argument(
        '--check', action='store_true', help='check an existing archive, and write nothing'
    )
    return parser.parse_args(argv)


def main(argv: list[str]) -> None:
    """Writes or checks the archive."""
    args = parse_args(argv)
    if args.masks is None and not args.check:
        raise ValueError('expected the folder with the masks and the archive to write')
    # The masks need neither torch nor mmseg.
    from ecotta_seg.masks import check_submission, write_submission
    from ecotta_seg.masks.submission import frames_of_images

    if args.check:
        frames = frames_of_images(args.images, args.server) if args.images else None
        check_submission(args.archive, args.server, frames)
        print(f'{args.archive} has the form that {args.server} takes')
        return
    number = write_submission(args.masks, args.archive, args.server, args.part, args.images)
    print(f'{number} masks for {args.server} are in {args.archive}')


if __name__ == '__main__':
    sys.exit(run_tool(main))
