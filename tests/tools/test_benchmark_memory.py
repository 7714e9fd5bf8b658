"""tools/benchmark_memory.py end to end, on a tiny config, and a user's mistakes."""

import json

import cv2
import pytest

from tests.tools.conftest import error_of, run_tool


@pytest.mark.slow
def test_a_run_and_its_files(project, tmp_path):
    run = run_tool(
        'benchmark_memory', project.config, '--size', 48, 96, '--repeats', 1, '--methods', 'tent',
        'ecotta', '--budgets', '1kB', '--json', tmp_path / 'm.json', '--plot', tmp_path / 'm.png',
        '--sweep', '--sweep-sizes', '64x64', '--sweep-parts', 2,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    document = json.loads((tmp_path / 'm.json').read_text())
    names = [row['name'] for row in document['rows']]
    assert names == ['inference', 'tent', 'ecotta@fastest', 'ecotta@1kB']
    for row in document['rows'][:3]:
        assert row['total_bytes'] > row['peak_bytes'] > 0 and row['seconds'] > 0
    assert document['rows'][3]['smallest_bytes'] > 1000
    assert document['sweep'][0]['num_parts'] == 2 and document['size'] == [48, 96]
    assert cv2.imread(str(tmp_path / 'm.png')) is not None
    assert 'ecotta@1kB: a memory budget of 1000 bytes cannot be met' in run.stdout


@pytest.mark.slow
def test_any_method_has_a_row(project, tmp_path):
    preset = tmp_path / 'mine.py'
    preset.write_text("adaptation = dict(type='tent', optimizer=dict(type='SGD', lr=1e-3))\n")
    ladder = 'ladder:meta_networks.num_parts=2,meta_networks.open_parts=1'
    run = run_tool(
        'benchmark_memory', project.config, '--size', 48, 96, '--repeats', 1, '--methods', 'roid',
        ladder, 'tent', preset, '--json', tmp_path / 'm.json',
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    rows = json.loads((tmp_path / 'm.json').read_text())['rows']
    assert [row['name'] for row in rows] == ['inference', 'roid', ladder, 'tent', str(preset)]
    by_name = {row['name']: row for row in rows}
    # SGD without momentum keeps no state; the preset's Adam keeps two numbers for each parameter.
    assert by_name[str(preset)]['optimizer_bytes'] < by_name['tent']['optimizer_bytes']
    assert by_name[ladder]['adapters_bytes'] > 0
    # ROID's consistency loss needs a second forward with a graph.
    assert by_name['roid']['peak_bytes'] > by_name['tent']['peak_bytes']


@pytest.mark.slow
@pytest.mark.parametrize('channels', [1, 4])
def test_frames_have_the_channels_that_the_model_takes(project, tmp_path, channels):
    run = run_tool(
        'benchmark_memory', project.config, '--size', 48, 96, '--repeats', 1, '--methods', 'ecotta',
        '--budgets', '--json', tmp_path / 'm.json', '--sweep', '--sweep-sizes', '64x64',
        '--sweep-parts', 2, '--cfg-options', f'model.backbone.in_channels={channels}',
        'model.data_preprocessor.mean=None', 'model.data_preprocessor.std=None',
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    document = json.loads((tmp_path / 'm.json').read_text())
    assert [row['error'] for row in document['rows']] == [None, None]
    assert document['sweep'][0]['fastest_peak_bytes'] > 0


@pytest.mark.slow
def test_mistakes_are_one_sentence(project, tmp_path):
    arguments = ['benchmark_memory', project.config, '--size', 48, 96]
    assert 'expected a memory budget' in error_of(run_tool(*arguments, '--budgets', 'much'))
    assert "unknown method 'tant'" in error_of(run_tool(*arguments, '--methods', 'tant'))
    assert 'no option' in error_of(run_tool(*arguments, '--methods', 'roid:vieuws=1'))
    run = run_tool('benchmark_memory', project.config, tmp_path / 'none.pth', '--size', 48, 96)
    assert 'none.pth does not exist' in error_of(run)
    assert 'whole number from 32' in error_of(run_tool(*arguments[:3], 8, 96))
