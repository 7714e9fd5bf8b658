"""``tools/publish_checkpoint.py``: weights and class names, and nothing else."""

import subprocess
import sys

import pytest
import torch

from ecotta_seg.files.checkpoint import read_checkpoint
from tests.benchmark.conftest import ROOT

WEIGHTS = {'conv.weight': torch.tensor([[0.1, -3.0]]), 'bn.num_batches_tracked': torch.tensor(7)}


def publish(folder, weights, *options):
    """Writes a training's checkpoint, publishes it, gives back process and target."""
    source, target = folder / 'iter_9.pth', folder / 'published.pth'
    meta = {'dataset_meta': {'classes': ('road', 'sky'), 'palette': [[1, 2, 3]]}, 'iter': 9}
    torch.save({'state_dict': weights, 'meta': meta, 'optimizer': {'lr': 1.0}}, source)
    command = [sys.executable, ROOT / 'tools/publish_checkpoint.py', source, target, *options]
    return subprocess.run(command, capture_output=True, text=True), target


@pytest.mark.slow
@pytest.mark.parametrize('options, dtype', [((), torch.float32), (('--half',), torch.float16)])
def test_weights_and_classes_stay(tmp_path, options, dtype):
    process, target = publish(tmp_path, WEIGHTS, *options)
    assert process.returncode == 0, process.stderr
    published = read_checkpoint(target)
    assert set(published) == {'state_dict', 'meta'}
    assert set(published['meta']['dataset_meta']) == {'classes', 'palette'}
    state = published['state_dict']
    assert torch.equal(state['conv.weight'], WEIGHTS['conv.weight'].to(dtype))
    assert torch.equal(state['bn.num_batches_tracked'], torch.tensor(7))


@pytest.mark.slow
def test_numbers_beyond_half_precision_are_not_lost(tmp_path):
    process, target = publish(tmp_path, {'bn.running_var': torch.tensor([1e6])}, '--half')
    assert process.returncode != 0 and 'bn.running_var' in process.stderr
    assert 'Traceback' not in process.stderr and not target.exists()
