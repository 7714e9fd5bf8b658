"""Standing memory and peaks against counts by hand."""

import gc
import json
import mmap

import pytest
import torch
from torch import nn

from ecotta_seg.memory import (
    MemoryReport,
    StandingMemory,
    measure_peak,
    process_current_bytes,
    process_peak_bytes,
    reset_process_peak,
    standing_memory,
    storage_bytes,
)


def test_storage_bytes_counts_shared_storages_once():
    x = torch.zeros(256)
    assert storage_bytes([x, x.view(16, 16), x[3:]]) == 1024


@pytest.fixture
def model():
    model = nn.Sequential(nn.Linear(8, 16, bias=False), nn.BatchNorm1d(16), nn.Linear(16, 4))
    model[2].weight = nn.Parameter(model[2].weight)
    return model


def test_standing_memory_splits_without_overlap(model):
    adapters = model[2]
    optimizer = torch.optim.SGD(adapters.parameters(), lr=0.1, momentum=0.9)
    model[0].requires_grad_(False)
    model[1].requires_grad_(False)
    model(torch.randn(5, 8)).sum().backward()
    optimizer.step()
    standing = standing_memory(model, adapters, optimizer)
    adapter_bytes = (16 * 4 + 4) * 4
    # weight, BatchNorm's weight, bias, mean, variance, and its int64 counter
    assert standing.parameters_bytes == 8 * 16 * 4 + 4 * 16 * 4 + 8
    assert standing.adapters_bytes == adapter_bytes
    assert standing.gradients_bytes == adapter_bytes
    assert standing.optimizer_bytes == adapter_bytes
    assert standing.total_bytes == standing.parameters_bytes + 3 * adapter_bytes
    by_name = standing_memory(model, dict(adapters.named_parameters()), optimizer)
    assert by_name == standing
    assert standing.kept_bytes == 0


def test_adam_state_includes_both_moments_and_steps(model):
    optimizer = torch.optim.Adam(model[2].parameters())
    model(torch.randn(5, 8)).sum().backward()
    optimizer.step()
    model.zero_grad(set_to_none=True)
    standing = standing_memory(model, model[2], optimizer)
    assert standing.optimizer_bytes == 2 * (16 * 4 + 4) * 4 + 2 * 4
    assert standing.gradients_bytes == 0


def test_report_adds_up():
    standing = StandingMemory(
        parameters_bytes=1000,
        adapters_bytes=100,
        gradients_bytes=0,
        optimizer_bytes=50,
        kept_bytes=7,
    )
    assert standing.total_bytes == 1157
    report = MemoryReport.build(
        standing, step_peak_bytes=500, inference_peak_bytes=400, transient_gradients_bytes=100
    )
    assert report.adaptation_peak_bytes == 550
    assert report.activations_bytes == 400
    assert report.gradients_bytes == 100
    # Kept copies are in no peak.
    assert report.kept_bytes == 7 and report.total_bytes == 1657
    json.dumps(report.to_dict())


def test_report_of_a_method_that_does_not_adapt():
    report = MemoryReport.build(StandingMemory(parameters_bytes=10), None, inference_peak_bytes=4)
    assert report.adaptation_peak_bytes is None and report.total_bytes is None
    assert report.to_dict()['inference_peak_bytes'] == 4


def test_measure_peak():
    assert measure_peak(lambda: torch.zeros(1024), 'cpu') == 4096
    with pytest.raises(ValueError, match='cpu or cuda'):
        measure_peak(lambda: None, 'meta')
    if not torch.cuda.is_available():
        with pytest.raises(ValueError, match='no CUDA device'):
            measure_peak(lambda: None, 'cuda')


def test_process_peak_sees_a_block_and_forgets_it():
    size = 64 * 2**20
    # What earlier tests have left for the collector must not be freed in between.
    gc.collect()
    could_reset = reset_process_peak()
    before = process_peak_bytes()
    # A map of its own: an allocator may hand out pages that earlier tests have touched already.
    block = mmap.mmap(-1, size)
    block.write(bytes(size))
    assert process_peak_bytes() >= before + size * 0.9
    block.close()
    if could_reset:
        reset_process_peak()
        assert process_peak_bytes() < before + size * 0.5
    assert process_current_bytes() <= process_peak_bytes()
