"""The scene of docs/vehicle.md is followed as it is written."""

import re
from pathlib import Path

import pytest

from ecotta_seg.cli.command_line import run_tool
from ecotta_seg.cli.console import load_tool

ROOT = Path(__file__).resolve().parents[2]
bags = pytest.importorskip('tests.ros.bags', reason='rosbags has no build for this Python')


def test_a_bag_is_made_and_segmented(tmp_path, monkeypatch, capsys):
    text = (ROOT / 'docs/vehicle.md').read_text()
    (snippet,) = [s for s in re.findall(r'```python\n(.*?)```', text, re.S) if 'rosbags' in s]
    (tmp_path / 'data').symlink_to(ROOT / 'data')
    monkeypatch.chdir(tmp_path)
    exec(snippet, {})
    assert 'python tools/ros2_bag.py drive segmented --topic /camera/image_raw\n' in text
    tool = load_tool(ROOT / 'tools' / 'ros2_bag.py')
    arguments = ['drive', 'segmented', '--topic', '/camera/image_raw/compressed']
    assert run_tool(tool.main, [*arguments, '--max-frames', '2']) == 0
    output = capsys.readouterr()
    assert 'which knows road, sidewalk' in output.err
    assert '/camera/image_raw/compressed: 2 images' in output.out
    messages = bags.read_mcap('segmented/segmented.mcap')
    stamps = [bags.Cdr(m[4]).header() for m in messages if m[0] == '/segmentation/mask']
    assert stamps == [(100 * 10**9, 'camera'), (101 * 10**9, 'camera')]
