"""The tool: exit codes, one sentence on mistakes, progress."""

import importlib.util
from pathlib import Path

import cv2
import numpy as np
import pytest

from ecotta_seg.cli.command_line import run_tool
from ecotta_seg.datasets import ACDCDataset

TOOL = Path(__file__).parents[2] / 'tools/make_adverse.py'


@pytest.fixture
def tool():
    spec = importlib.util.spec_from_file_location('make_adverse', TOOL)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.main


@pytest.fixture
def source(tmp_path):
    root = tmp_path / 'source'
    for name in ('a_1', 'a_2'):
        image = root / f'leftImg8bit/val/a/{name}_leftImg8bit.png'
        label = root / f'gtFine/val/a/{name}_gtFine_labelTrainIds.png'
        image.parent.mkdir(parents=True, exist_ok=True)
        label.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(image), np.full((20, 30, 3), 90, np.uint8))
        cv2.imwrite(str(label), np.full((20, 30), 13, np.uint8))
    return root


def test_writes_a_dataset_that_loads(tool, source, tmp_path, capsys):
    out = tmp_path / 'out'
    argv = [str(source), str(out), '--severity', '4', '--conditions', 'fog', 'rain']
    assert run_tool(tool, argv) == 0
    text = capsys.readouterr().out
    assert 'ETA' in text and 'task/s' in text and f'4 frames written to {out}' in text
    for condition in ('fog', 'rain'):
        assert len(ACDCDataset(condition, split='val', data_root=str(out))) == 2
    assert run_tool(tool, [*argv, '--resume']) == 0
    assert '0 frames written' in capsys.readouterr().out


@pytest.mark.parametrize(
    ('extra', 'words'),
    [
        (['--conditions', 'hail'], '--conditions hail: expected some of fog'),
        (['--severity', '7'], 'unknown severity 7'),
        (['--splits', 'train'], 'leftImg8bit/train does not exist'),
    ],
)
def test_mistakes_end_in_one_sentence(tool, source, tmp_path, capsys, extra, words):
    assert run_tool(tool, [str(source), str(tmp_path / 'out'), *extra]) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    # What every tool tells at its start goes before.
    (error,) = [line for line in lines if not line.startswith('note: ')]
    assert words in error and error.startswith('error: ')


def test_a_folder_in_use_is_refused(tool, source, tmp_path, capsys):
    assert run_tool(tool, [str(source), str(source)]) == 2
    assert 'is not empty' in capsys.readouterr().err
