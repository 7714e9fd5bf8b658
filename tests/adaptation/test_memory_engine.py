"""The engine's gradients against plain autograd's."""

import pytest
import torch

from ecotta_seg.adaptation import build_method

from .conftest import build_segmentor

META = {
    'paper': dict(num_parts=3, start='paper'),
    'identity': dict(num_parts=4, start='identity'),
    'tokens': dict(num_parts=3, start='identity', norm='LN', depthwise=True),
    'pointwise': dict(num_parts=2, start='paper', kernel_size=1, norm='affine'),
}


def _method(kind, meta, engine, dtype=torch.float64, type='ecotta', test_cfg=None, **options):
    options = dict(
        type=type,
        meta_networks=dict(META[meta]),
        frozen_norm=dict(mode='drift'),
        optimizer=dict(type='SGD', lr=0.01, momentum=0.9),
        entropy_threshold=0.75,
        memory_engine=engine,
        **options,
    )
    method = build_method(options, build_segmentor(kind, **(test_cfg or {}))).to(dtype).eval()
    torch.manual_seed(3)
    for parameter in method.adaptable_parameters().values():
        # Away from an identity start, where every difference is 0.
        parameter.data += 0.05 * torch.randn_like(parameter)
    method.start()
    return method


def gradients_of(method, image, metas):
    """The gradients of a step that is not taken, and its logits."""
    found = {}

    def gate(logits):
        found.update({n: p.grad.clone() for n, p in method.adaptable_parameters().items()})
        return False

    method.gate = gate
    return method.adapt(image, metas), found


def _metas(image, **more):
    size = tuple(image.shape[2:])
    return [dict(img_shape=size, ori_shape=size, **more)] * image.shape[0]


@pytest.mark.parametrize('meta', sorted(META))
@pytest.mark.parametrize('kind', ['deeplab', 'segformer'])
@pytest.mark.parametrize('shape', [(1, 3, 61, 93), (2, 3, 64, 96)])
def test_gradients_in_float64(kind, meta, shape):
    image = torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    metas = _metas(image)
    plain, ours = _method(kind, meta, False), _method(kind, meta, True)
    assert ours.engine.fallbacks() == []
    logits, expected = gradients_of(plain, image, metas)
    ours_logits, found = gradients_of(ours, image, metas)
    assert torch.equal(ours_logits, logits)
    assert 0 < plain.last_step.confident_fraction < 1
    for field in ('loss', 'entropy', 'regularisation', 'confident_fraction'):
        assert getattr(ours.last_step, field) == pytest.approx(getattr(plain.last_step, field))
    assert expected.keys() == found.keys()
    for name in expected:
        assert torch.allclose(found[name], expected[name], 1e-8, 1e-12), name
