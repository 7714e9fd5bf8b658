"""The memory benchmark on a tiny model: its rows, against measurements made by hand."""

import io
import json

import cv2
import pytest
import torch
from mmengine.config import Config
from rich.console import Console

from ecotta_seg.benchmark.memory_model import METHODS, ModelSource, make_candidates, make_frame
from ecotta_seg.benchmark.memory_plot import plot_memory_rows
from ecotta_seg.benchmark.memory_report import print_memory_tables, write_memory_json
from ecotta_seg.benchmark.memory_rows import ROW_KEYS, measure_rows
from ecotta_seg.benchmark.memory_sweep import sweep
from ecotta_seg.memory import StorageMeter, standing_memory
from ecotta_seg.methods import build_method
from tests.segmentors import DEEPLAB
from tests.zoo import model_config

PRESETS = dict(
    tent=dict(type='tent', optimizer=dict(type='Adam', lr=1e-4)),
    cotta=dict(type='cotta', optimizer=dict(type='Adam', lr=1e-5)),
    ecotta=dict(
        type='ecotta',
        meta_networks=dict(num_parts=2, start='identity'),
        frozen_norm=dict(mode='drift'),
        optimizer=dict(type='SGD', lr=1e-4, momentum=0.9),
    ),
)
FRAME = make_frame(96, 160)


@pytest.fixture(scope='module')
def source():
    return ModelSource(Config(dict(model=DEEPLAB)), FRAME)


@pytest.fixture(scope='module')
def budget(source):
    """Half way between the fastest step and the smallest."""
    row = sweep(source, PRESETS['ecotta'], [(96, 160)], [2], [])[0]
    assert row['smallest_peak_bytes'] < row['fastest_peak_bytes']
    return f'{(row["smallest_peak_bytes"] + row["fastest_peak_bytes"]) // 2}B'


@pytest.fixture(scope='module')
def rows(source, budget):
    candidates = make_candidates(PRESETS, [budget, '1kB'], METHODS)
    return measure_rows(source, FRAME, candidates, repeats=1)


def by_name(rows):
    return {row['name']: row for row in rows}


def parameter_bytes(module):
    tensors = [*module.parameters(), *module.buffers()]
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


@pytest.mark.slow
def test_all_rows_are_there_and_in_order(rows, budget):
    assert [row['name'] for row in rows] == [
        'inference', 'tent_plain', 'tent', 'full', 'cotta_plain', 'cotta', 'ecotta_plain',
        'ecotta_lean', 'ecotta@fastest', f'ecotta@{budget}', 'ecotta@1kB',
    ]  # fmt: skip
    assert all(tuple(row) == ROW_KEYS for row in rows)
    for row in rows[:-1]:
        assert row['total_bytes'] > row['peak_bytes'] > 0 and row['seconds'] > 0
        assert row['peak_bytes'] >= row['step_peak_bytes'] + row['optimizer_bytes']
        # The matrices of Winograd's transforms are made once in a process.
        assert row['other_bytes'] < 2**14
    for row in rows[1:-1]:
        assert row['confident_fraction'] > 0


def test_inference_is_that_of_a_model_that_nobody_touched(source, rows):
    model = source.build()
    with torch.no_grad(), StorageMeter() as meter:
        model.encode_decode(*FRAME)
    assert rows[0]['peak_bytes'] == meter.peak_bytes
    assert rows[0]['total_bytes'] == meter.peak_bytes + parameter_bytes(model)
    assert rows[0]['peak_to_inference'] == rows[0]['seconds_to_inference'] == 1


def test_a_row_is_the_second_step_of_its_method(source, rows):
    method = build_method(PRESETS['tent'], source.build()).eval()
    with torch.no_grad():
        method.adapt(*FRAME)
        with StorageMeter() as meter:
            method.adapt(*FRAME)
    learned = sum(p.numel() for p in method.adaptable_parameters().values())
    steps = len(method.adaptable_parameters())
    row = by_name(rows)['tent']
    assert row['step_peak_bytes'] == meter.peak_bytes
    # Adam: two moments and a count for each parameter.
    assert row['optimizer_bytes'] == 8 * learned + 4 * steps
    assert row['peak_bytes'] == meter.peak_bytes + row['optimizer_bytes'] + row['other_bytes']
    assert row['copies_bytes'] == 4 * learned


def test_cotta_counts_student_teacher_anchor_and_optimizer(rows):
    full, cotta = by_name(rows)['full'], by_name(rows)['cotta']
    # One copy to go back to; the teacher is a second.
    assert cotta['copies_bytes'] == 2 * full['copies_bytes']
    parts = ('parameters_bytes', 'adapters_bytes', 'copies_bytes', 'peak_bytes')
    assert cotta['total_bytes'] == sum(cotta[part] for part in parts)
    assert cotta['total_bytes'] > by_name(rows)['ecotta_plain']['total_bytes']
    assert cotta['total_bytes'] > by_name(rows)['ecotta@fastest']['total_bytes']
    assert full['gradients_bytes'] == full['copies_bytes'] > 0


def test_budgets_are_kept_or_told(rows, budget):
    found = by_name(rows)
    kept = found[f'ecotta@{budget}']
    assert kept['peak_bytes'] <= kept['budget_bytes'] == int(budget[:-1])
    assert kept['peak_bytes'] < found['ecotta@fastest']['peak_bytes']
    assert kept['plan'].startswith('kept of part 1') and kept['fallbacks'] == []
    assert kept['peak_bytes'] == pytest.approx(kept['predicted_peak_bytes'], rel=0.05)
    assert kept['peak_bytes'] < found['ecotta_plain']['peak_bytes']
    unmet = found['ecotta@1kB']
    assert unmet['peak_bytes'] is None and unmet['budget_bytes'] == 1000
    assert 1000 < unmet['smallest_bytes'] <= kept['peak_bytes'] * 1.05
    assert str(unmet['smallest_bytes']) in unmet['error']


def test_plain_rows_are_plain(rows):
    found = by_name(rows)
    for name, lean in (('tent', 'tent'), ('ecotta', 'ecotta_lean')):
        assert found[lean]['peak_bytes'] < 0.7 * found[f'{name}_plain']['peak_bytes']
    # Every convolution of CoTTA's student learns and keeps its input.
    assert found['cotta']['peak_bytes'] < found['cotta_plain']['peak_bytes']


def test_what_a_method_keeps_is_found_inside_another_one(source):
    method = build_method(dict(PRESETS['tent'], reset_every=1000), source.build())
    learned = sum(p.numel() for p in method.adaptable_parameters().values())
    assert standing_memory(method).kept_bytes == 4 * learned


def test_the_document_the_tables_and_the_picture(source, rows, tmp_path):
    peaks = sweep(source, PRESETS['ecotta'], [(64, 96), (96, 160)], [2], ['1kB', '20x'])
    assert peaks[1]['budgets']['20x'] == peaks[1]['fastest_peak_bytes']
    assert [(row['height'], row['width']) for row in peaks] == [(64, 96), (96, 160)]
    # Nothing was computed, and yet it is what was measured.
    assert peaks[1]['inference_peak_bytes'] == rows[0]['peak_bytes']
    fastest = by_name(rows)['ecotta@fastest']['peak_bytes']
    assert peaks[1]['fastest_peak_bytes'] == pytest.approx(fastest, rel=0.05)
    assert peaks[1]['budgets']['1kB'] is None
    assert peaks[0]['smallest_peak_bytes'] < peaks[1]['smallest_peak_bytes'] <= fastest * 1.05
    document = dict(config='tiny [x].py', size=[96, 160], device='cpu', rows=rows, sweep=peaks)
    written = json.loads(write_memory_json(document, tmp_path / 'rows.json').read_text())
    assert written['schema'] == 1 and by_name(written['rows']) == by_name(rows)
    console = Console(width=100, file=io.StringIO())
    print_memory_tables(document, console)
    text = console.file.getvalue()
    assert 'tiny [x].py' in text and 'ecotta@1kB: a memory budget of 1000 bytes' in text
    assert f'{rows[1]["peak_bytes"] / 2**20:.1f}' in text and '96x160' in text
    assert cv2.imread(str(plot_memory_rows(document, tmp_path / 'rows.png'))) is not None


def test_unknown_methods_and_budgets_are_refused():
    with pytest.raises(ValueError, match="unknown method 'tant'.*ecotta_plain"):
        make_candidates(PRESETS, [], ['tant'])
    with pytest.raises(ValueError, match='expected a memory budget'):
        make_candidates(PRESETS, ['much'])


def test_a_model_that_the_engine_does_not_know_has_budgets_too():
    source = ModelSource(Config(dict(model=model_config('hrnet_ocrnet'))), make_frame(64, 96))
    candidates = make_candidates(PRESETS, ['9x', '1.0x'], ['ecotta'])
    rows = by_name(measure_rows(source, make_frame(64, 96), candidates, repeats=1))
    fastest, kept, refused = (rows[f'ecotta@{name}'] for name in ('fastest', '9x', '1.0x'))
    assert fastest['fallbacks'] == ['whole step, for its backbone (HRNet)']
    assert fastest['peak_bytes'] > 0 and fastest['plan'] is None
    # The classifier's weights are scaled, in the last of the heads.
    assert fastest['confident_fraction'] > 0
    assert kept['peak_bytes'] <= kept['predicted_peak_bytes'] <= kept['budget_bytes']
    assert kept['planning_seconds'] > 0
    # So small a frame takes less than the gradients and momenta of the meta networks.
    assert refused['peak_bytes'] is None and refused['smallest_bytes'] > refused['budget_bytes']
