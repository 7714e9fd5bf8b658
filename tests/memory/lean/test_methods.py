"""Every method that learns, on models of many architectures: a lean step is the plain step."""

from pathlib import Path

import mmseg.models.decode_heads.point_head as point_head
import pytest
import torch

from ecotta_seg.config.config import read_config
from ecotta_seg.memory import StorageMeter
from ecotta_seg.methods import build_method
from tests.segmentors import calibrated
from tests.zoo import ZOO, build, point_sample

FOLDER = Path(__file__).resolve().parents[3] / 'configs' / '_base_' / 'adaptation'
METHODS = (
    *('tent', 'eata', 'sar', 'law', 'cotta', 'ecotta', 'ecotta_plus', 'ladder'),
    *('roid', 'rotta', 'svdp', 'vida', 'hybrid_tta', 'becotta', 'mixture_of_prototypes'),
)
# One of each kind on all models: norms, all parameters, meta networks.
CELLS = [(model, name) for model in sorted(ZOO) for name in ('tent', 'cotta', 'ecotta_plus')]
CELLS += [(model, name) for model in ('pspnet', 'swin') for name in METHODS]
METAS = [dict(img_shape=(64, 96), ori_shape=(64, 96))]


@pytest.fixture(autouse=True)
def _point_sample(monkeypatch):
    monkeypatch.setattr(point_head, 'point_sample', point_sample)


def method_of(name, model, dtype=torch.float64):
    """A method with its preset on a model of the zoo, by ordinary autograd."""
    options = read_config(FOLDER / f'{name}.py').adaptation.to_dict()
    if name.startswith('ecotta'):
        options['memory_engine'] = False
    if name in ('cotta', 'svdp'):
        options['views'] = 1
    inner = options.get('method', options)
    inner['optimizer'] = dict(type='SGD', lr=1e-3)
    if 'entropy_threshold' in inner:
        inner['entropy_threshold'] = 0.99
    torch.manual_seed(0)
    return calibrated(build_method(options, build(model).to(dtype)).eval())


def _steps(name, model, lean):
    """Logits and parameters after two frames, and the peak of the second one."""
    method = method_of(name, model)
    getattr(method, 'inner', method).lean = lean
    generator = torch.Generator().manual_seed(1)
    for _ in range(2):
        image = torch.randn(1, 3, 64, 96, generator=generator).double()
        torch.manual_seed(2)
        with StorageMeter() as meter:
            logits = method.adapt(image, METAS)
    return logits, method.learned_tensors(), meter.peak_bytes


@pytest.mark.slow
@pytest.mark.parametrize(('model', 'name'), sorted(set(CELLS)))
def test_a_lean_step_is_the_plain_step(model, name):
    expected = _steps(name, model, False)
    logits, tensors, peak = _steps(name, model, True)
    assert torch.allclose(logits, expected[0], 1e-9, 1e-10)
    assert tensors.keys() == expected[1].keys()
    for key, tensor in tensors.items():
        assert torch.allclose(tensor, expected[1][key], 1e-9, 1e-11), key
    # A convolution that learns keeps its input, and a ReLU's bit comes on top of the map.
    assert peak <= expected[2] * (1.1 if name == 'cotta' else 1)
