"""The command ``ecotta-seg``, which runs the tools of the folder ``tools`` by name."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Optional

from ..startup.zoo_names import package_folder
from ..version import __version__
from .command_line import EXIT_USER_ERROR, run_tool
from .loading import COMMAND

# Command names of the tools; the name of a tool's file is accepted, too.
COMMANDS = {
    'adapt': 'test_tta',
    'warm-up': 'warm_up',
    'video': 'adapt_video',
    'bag': 'ros2_bag',
    'node': 'ros2_node',
    'benchmark': 'benchmark_methods',
    'choose': 'choose',
    'memory': 'benchmark_memory',
    'report': 'report',
    'compare': 'compare',
    'train': 'train',
    'export': 'export',
    'sparsify': 'sparsify',
    'submission': 'make_submission',
    'make-adverse': 'make_adverse',
    'make-scenes': 'make_driving_scenes',
    'publish': 'publish_checkpoint',
}


def tool_path(command: str) -> Optional[Path]:
    """Returns the file of a tool.

    Args:
        command: A name of ``COMMANDS``, or the name of the file without its suffix.

    Returns:
        The file; None if there is no such tool.
    """
    name = COMMANDS.get(command, command)
    path = Path(package_folder('tools'), f'{name}.py')
    return path.resolve() if name in COMMANDS.values() and path.is_file() else None


def load_tool(path: Path) -> ModuleType:
    """Imports a tool from its file."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def usage() -> str:
    """Returns the help text: all commands, each with the first line of its tool's docstring."""
    lines = [f'usage: {COMMAND} COMMAND [ARGUMENTS]', '', 'commands:']
    for command in COMMANDS:
        path = tool_path(command)
        text = path.read_text(encoding='utf-8') if path else 'not in this installation'
        summary = text.lstrip('r"').splitlines()[0].partition(': python')[0].rstrip('."')
        lines.append(f'  {command:13} {summary}')
    lines += [
        '',
        f'{COMMAND} COMMAND --help lists the arguments of a command.',
        'A CONFIG is a file, or a config of this package: ecotta_seg::acdc_ecotta.py',
    ]
    return '\n'.join(lines)


def main(argv: Optional[list[str]] = None) -> int:
    """Runs a command.

    Args:
        argv: The command and its arguments; None for the arguments of this process.

    Returns:
        The exit code.
    """
    argv = list(sys.argv[1:] if argv is None else argv)
    if not argv or argv[0] in ('-h', '--help'):
        print(usage())
        return 0 if argv else EXIT_USER_ERROR
    if argv[0] == '--version':
        print(f'{COMMAND} {__version__}')
        return 0
    path = tool_path(argv[0])
    if path is None:
        print(
            f'error: expected one of {", ".join(COMMANDS)}, got {argv[0]!r}; {COMMAND} --help '
            'lists the commands',
            file=sys.stderr,
        )
        return EXIT_USER_ERROR
    sys.argv = [f'{COMMAND} {argv[0]}', *argv[1:]]
    return run_tool(load_tool(path).main)
