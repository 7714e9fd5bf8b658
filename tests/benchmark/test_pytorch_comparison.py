"""The comparison of EcoTTA's step with PyTorch's means, on a tiny model."""

import io

import pytest
import torch
from mmengine.config import Config
from rich.console import Console

from ecotta_seg.benchmark.memory_model import ModelSource, make_frame
from ecotta_seg.benchmark.memory_report import print_memory_tables
from ecotta_seg.benchmark.memory_rows import measure_rows
from ecotta_seg.benchmark.pytorch_comparison import checkpoint_blocks, compare, variants
from ecotta_seg.memory import measure_peak
from ecotta_seg.memory.allocator_peak import allocator_peak_bytes
from ecotta_seg.methods import build_method
from tests.segmentors import DEEPLAB, SEGFORMER

OPTIONS = dict(
    type='ecotta', meta_networks=dict(num_parts=2, start='identity', norm='BN'),
    frozen_norm=dict(mode='drift'), optimizer=dict(type='SGD', lr=1e-4, momentum=0.9),
    entropy_threshold=1.0,
)  # fmt: skip
FRAME = make_frame(96, 160)
HAS_BUDGET = hasattr(pytest.importorskip('torch._functorch.config'), 'activation_memory_budget')


@pytest.fixture(scope='module')
def source():
    return ModelSource(Config(dict(model=DEEPLAB)), FRAME)


@pytest.fixture(scope='module')
def rows(source):
    # The compiler's partition of the graph without its generated code.
    backend = 'aot_eager_decomp_partition'
    chosen = variants(['1kB'], [1.0, 0.0] if HAS_BUDGET else [])
    found = compare(source, FRAME, OPTIONS, chosen, repeats=1, backend=backend)
    return {row['name']: row for row in found}


@pytest.mark.slow
def test_each_row_has_the_gradients_of_float64(rows):
    assert list(rows)[:3] == ['inference', 'plain autograd', 'with_cp=True']
    for name, row in rows.items():
        if row['gradient_error'] is not None:
            assert 0 < row['gradient_error'] < 1e-3, name
    assert {'plain autograd', 'with_cp=True', 'lean autograd'} <= {
        name for name, row in rows.items() if row['gradient_error'] is not None
    }
    if HAS_BUDGET:
        assert rows['torch.compile, 0']['gradient_error'] is not None


def test_a_wrong_gradient_is_seen(source, monkeypatch):
    from ecotta_seg.benchmark import pytorch_comparison

    exact = pytorch_comparison._exact_gradients(source, FRAME, OPTIONS)
    other = {name: gradient + 0.01 * gradient.abs().max() for name, gradient in exact.items()}
    assert pytorch_comparison._error(other, exact) == pytest.approx(0.01)


@pytest.mark.slow
def test_the_peaks_are_in_the_order_that_the_means_promise(rows, source):
    plain = rows['plain autograd']['peak_bytes']
    assert rows['inference']['peak_bytes'] < rows['lean autograd']['peak_bytes'] < plain
    assert rows['with_cp=True']['peak_bytes'] < plain
    # Without kernels' buffers the meter sees the same tensors.
    stock = measure_rows(source, FRAME, [], repeats=1)[0]
    assert stock['step_peak_bytes'] <= rows['inference']['peak_bytes']


@pytest.mark.slow
@pytest.mark.skipif(not HAS_BUDGET, reason='torch has no budget of activations')
def test_a_smaller_budget_of_activations_takes_less_memory(rows):
    assert rows['torch.compile, 0']['compile_seconds'] > 0
    assert rows['torch.compile, 0']['peak_bytes'] < rows['torch.compile, 1']['peak_bytes']
    assert rows['plain autograd']['compile_seconds'] is None


@pytest.mark.slow
def test_a_row_that_cannot_be_has_its_reason(rows):
    row = rows['engine, 1kB']
    assert row['peak_bytes'] is None and 'cannot be met' in row['error']
    text = io.StringIO()
    console = Console(file=text, width=120)
    inference = measure_rows(ModelSource(Config(dict(model=DEEPLAB)), FRAME), FRAME, [], repeats=1)
    document = dict(config='c.py', size=[96, 160], rows=inference, comparison=list(rows.values()))
    print_memory_tables(document, console)
    assert 'with_cp=True' in text.getvalue() and 'engine, 1kB: a memory budget' in text.getvalue()


def test_a_model_without_checkpointed_blocks_says_so():
    with pytest.raises(ValueError, match='with_cp, the model has none'):
        checkpoint_blocks(torch.nn.Sequential(torch.nn.Conv2d(3, 4, 1)))


@pytest.mark.parametrize('model', [DEEPLAB, SEGFORMER])
def test_the_allocators_peak_is_at_least_the_meters(model):
    source = ModelSource(Config(dict(model=model)), FRAME)
    method = build_method(dict(OPTIONS, memory_engine=False), source.build()).eval()

    def step():
        with torch.no_grad():
            method.adapt(*FRAME)

    step()
    metered = measure_peak(step, torch.device('cpu'))
    allocated = allocator_peak_bytes(step, torch.device('cpu'))
    assert metered <= allocated < 2 * metered


def test_the_peak_of_a_known_call():
    def call():
        kept = [torch.ones(2**20) for _ in range(3)]
        del kept
        torch.ones(2**18)

    peak = allocator_peak_bytes(call, torch.device('cpu'))
    assert 3 * 2**22 <= peak < 3 * 2**22 + 4096
