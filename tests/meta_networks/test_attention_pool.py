"""Pooling by attention against a loop over cells, and meta networks on a coarser grid."""

import pytest
import torch
import torch.nn.functional as F

from ecotta_seg.memory import StorageMeter
from ecotta_seg.meta_networks import MetaNetwork
from ecotta_seg.meta_networks.attention_pool import AttentionPool
from ecotta_seg.methods import build_method
from tests.segmentors import build_segmentor


@pytest.mark.parametrize('factor', [2, 4])
def test_each_cell_is_weighed_by_its_own_softmax(factor):
    torch.manual_seed(0)
    pool, x = AttentionPool(5, factor).double(), torch.randn(2, 5, 9, 14).double()
    mean = F.avg_pool2d(x, factor, ceil_mode=True)
    assert torch.allclose(pool(x), mean), 'at the start the plain mean of the pixels that are there'
    torch.nn.init.normal_(pool.score.weight)
    found = pool(x)
    assert found.shape == mean.shape
    for n, row, column in [(0, 0, 0), (1, 1, 2), (1, found.shape[2] - 1, found.shape[3] - 1)]:
        cell = x[n, :, row * factor :, column * factor :][:, :factor, :factor].flatten(1)
        weights = (pool.score.weight.flatten() @ cell).softmax(0)
        assert torch.allclose(found[n, :, row, column], cell @ weights)


@pytest.mark.parametrize('start', ['paper', 'identity'])
def test_a_coarse_block_follows_the_formula(start):
    torch.manual_seed(0)
    network = MetaNetwork(8, 16, stride=2, start=start, coarse=2).eval()
    x, part_input = torch.randn(1, 16, 9, 11), torch.randn(1, 8, 18, 21)
    if start == 'identity':
        assert torch.equal(network(x, part_input), x)
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter)
    small = F.conv2d(network.pool(part_input), network.conv.weight, stride=2, padding=1)
    assert small.shape[2:] == (5, 6)
    block = F.interpolate(network.block_norm(small).relu(), (9, 11), mode='bilinear')
    expected = network.norm(x) + block
    if start == 'identity':
        expected = x + network.norm(x) + network.gain.view(-1, 1, 1) * block
    assert torch.allclose(network(x, part_input), expected, atol=1e-4)


@pytest.mark.parametrize('kind', ['deeplab', 'segformer'])
@pytest.mark.parametrize('coarse', [2, 4])
def test_the_engine_s_step_is_that_of_autograd(kind, coarse):
    generator = torch.Generator().manual_seed(1)
    images = [torch.randn(1, 3, 61, 93, generator=generator).double() for _ in range(3)]
    metas = [dict(img_shape=(61, 93), ori_shape=(61, 93))]
    methods = [
        build_method(
            dict(
                type='ecotta', meta_networks=dict(num_parts=4, start='identity', coarse=coarse),
                entropy_threshold=0.95, optimizer=dict(type='SGD', lr=0.01), memory_engine=engine,
            ),
            build_segmentor(kind).double(),
        ).eval()
        for engine in (True, False)
    ]  # fmt: skip
    assert methods[0].engine is not None and methods[1].engine is None
    for image in images:
        ours, plain = (method.adapt(image, metas) for method in methods)
        assert torch.allclose(ours, plain, atol=1e-8) and methods[0].last_step.updated
    first, second = (dict(method.adaptable_parameters()) for method in methods)
    assert all(torch.allclose(first[n], second[n], 1e-6, 1e-12) for n in second)
    assert any(bool(p.any()) for n, p in first.items() if n.endswith('pool.score.weight'))


def test_a_coarser_grid_keeps_less():
    def kept(coarse):
        network = MetaNetwork(32, 32, start='identity', coarse=coarse)
        x, part_input = torch.randn(1, 32, 64, 96), torch.randn(1, 32, 64, 96)
        with StorageMeter() as meter:
            output = network(x, part_input)
            found = meter.current_bytes
        return found - output.numel() * 4

    fine, half, quarter = (kept(coarse) for coarse in (1, 2, 4))
    assert quarter < half < fine


def test_a_factor_below_one_is_refused():
    with pytest.raises(ValueError, match='coarse from 1'):
        MetaNetwork(8, 16, coarse=0)
