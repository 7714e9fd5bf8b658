"""The command ``ecotta-seg``: the tools by name, before any library is imported."""

import subprocess
import sys
from pathlib import Path

import pytest

from ecotta_seg.cli import console

ROOT = Path(__file__).resolve().parents[2]


def _command(tmp_path, *arguments):
    """Runs the script that pip writes for the entry point."""
    script = tmp_path / 'ecotta-seg'
    script.write_text('import sys\nfrom ecotta_seg.cli.console import main\nsys.exit(main())\n')
    return subprocess.run(
        [sys.executable, '-X', 'importtime', str(script), *map(str, arguments)],
        capture_output=True, text=True, cwd=tmp_path, env={'PYTHONPATH': str(ROOT)},
    )  # fmt: skip


def _imported(run):
    lines = [line.rpartition('|')[2].strip() for line in run.stderr.splitlines() if '|' in line]
    return {name.partition('.')[0] for name in lines}


def test_each_tool_has_a_command():
    tools = {path.stem for path in (ROOT / 'tools').glob('*.py')}
    assert sorted(console.COMMANDS.values()) == sorted(tools)
    for command, tool in console.COMMANDS.items():
        assert console.tool_path(command) == console.tool_path(tool)
        assert console.tool_path(command).samefile(ROOT / 'tools' / f'{tool}.py')


@pytest.mark.parametrize('command', console.COMMANDS)
def test_help_needs_no_torch(command, tmp_path):
    run = _command(tmp_path, command, '--help')
    assert run.returncode == 0 and run.stdout.startswith(f'usage: ecotta-seg {command} ')
    assert 'argparse' in _imported(run) and 'torch' not in _imported(run)


def test_the_commands_are_listed(capsys):
    assert console.main(['--help']) == 0
    text = capsys.readouterr().out
    assert all(f'\n  {command} ' in text for command in console.COMMANDS)
    assert 'adapt         Adapts a source model through a stream and scores it\n' in text
    assert console.main([]) == 2 and console.main(['--version']) == 0
    assert console.main(['adopt']) == 2
    assert 'expected one of adapt, warm-up, video' in capsys.readouterr().err


def test_a_mistake_of_a_command_is_one_sentence(tmp_path):
    run = _command(tmp_path, 'adapt', 'ecotta_seg::demo.py', 'missing.pth')
    assert run.returncode == 2 and 'torch' not in _imported(run)
    assert 'error: expected a checkpoint file, but missing.pth does not exist' in run.stderr
    assert not list(tmp_path.glob('work_dirs'))
