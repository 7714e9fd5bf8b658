"""The script of the checks on a GPU, on a CPU."""

import json

import pytest
import torch

from tests import on_cuda


@pytest.mark.slow
def test_what_it_finds_is_told_and_written(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(on_cuda, 'PEAK_FRAME', (128, 192))
    path = tmp_path / 'checks.json'
    assert on_cuda.main(['--device', 'cpu', '--only', 'segformer', '--json', str(path)]) == 0
    checks = json.loads(path.read_text())['checks']
    assert {'tent, segformer', 'ecotta_plus, segformer', 'bf16, segformer'} <= {
        check['name'] for check in checks
    }
    assert all(check['ok'] for check in checks)
    assert f'{len(checks)} of {len(checks)} hold on cpu' in capsys.readouterr().out


def test_a_gradient_that_is_off_fails(monkeypatch, capsys):
    exact = on_cuda._gradients

    def spoilt(config, device, dtype, plan=None, **options):
        logits, found = exact(config, device, dtype, plan, **options)
        if plan is not None:
            next(iter(found.values())).mul_(1.01)
        return logits, found

    monkeypatch.setattr(on_cuda, '_gradients', spoilt)
    only = 'gradients, camvid_severe_segformer_b0.py, float64'
    assert on_cuda.main(['--device', 'cpu', '--only', only]) == 1
    assert 'FAILED' in capsys.readouterr().out


@pytest.mark.skipif(torch.cuda.is_available(), reason='there is a CUDA device here')
def test_without_a_gpu_it_says_so(capsys):
    assert on_cuda.main([]) == 2
    assert 'no CUDA device' in capsys.readouterr().err
