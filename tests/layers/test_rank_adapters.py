"""Merged weights against adapters that run beside their layers."""

import torch
import torch.nn.functional as F
from torch import nn

from ecotta_seg.layers.rank_adapters import RankAdapters


def _network():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(4, 6, 3, stride=2, padding=1), nn.Flatten(2), nn.Linear(12, 5)
    ).double()


def _filled(network):
    model = nn.Module()
    model.network = network
    model.adapters = RankAdapters(network, 'network.', 1, 4)
    for parameter in model.adapters.parameters():
        nn.init.normal_(parameter)
    return model


def test_a_merged_layer_is_the_sum_of_the_layer_and_its_adapters():
    model = _filled(_network())
    names = ['network.0.weight', 'network.2.weight']
    assert model.adapters.names == names
    # At most the smaller side of the weight.
    assert [p.shape for p in model.adapters.high_down] == [(4, 36), (4, 12)]
    x = torch.randn(2, 4, 6, 8).double()
    merged = model.adapters.merged(dict(model.named_parameters()), 'adapters.', 0.5, 2.0)
    found = torch.func.functional_call(model.network, {
        'network.0.weight'[8:]: merged[names[0]], 'network.2.weight'[8:]: merged[names[1]]
    }, (x,))  # fmt: skip

    def beside(index, x, layer, run):
        adapters, out = model.adapters, layer(x)
        for scale, down, up in (
            (0.5, adapters.low_down, adapters.low_up),
            (2.0, adapters.high_down, adapters.high_up),
        ):
            out = out + scale * run(x, down[index], up[index])
        return out

    def conv(x, down, up):
        few = F.conv2d(x, down.view(-1, 4, 3, 3), stride=2, padding=1)
        return F.conv2d(few, up[:, :, None, None])

    hidden = beside(0, x, model.network[0], conv).flatten(2)
    expected = beside(1, hidden, model.network[2], lambda x, d, u: x @ d.T @ u.T)
    assert torch.allclose(found, expected)


def test_gradients_are_those_of_autograd():
    model = _filled(_network())
    parameters = dict(model.named_parameters())
    index, weight = 1, parameters['network.2.weight']
    down, up = model.adapters.high_down[index], model.adapters.high_up[index]
    target = torch.randn(5, 12).double()
    expected = torch.autograd.grad(((weight + 2.0 * up @ down) * target).sum().pow(2), (down, up))
    whole = (weight + 2.0 * up @ down).detach().requires_grad_()
    weight.grad = torch.autograd.grad((whole * target).sum().pow(2), whole)[0]
    model.adapters.give_gradients(parameters, 0.5, 2.0)
    assert torch.allclose(down.grad, expected[0]) and torch.allclose(up.grad, expected[1])
    assert model.adapters.low_up[0].grad is None


def test_at_the_start_they_change_nothing_and_attention_has_them():
    network = nn.MultiheadAttention(8, 2)
    adapters = RankAdapters(network, '', 1, 128)
    assert adapters.names == ['in_proj_weight', 'out_proj.weight']
    tensors = {**dict(network.named_parameters()), **dict(adapters.named_parameters())}
    merged = adapters.merged(tensors, '', 1.3, 0.7)
    assert all(torch.equal(merged[name], tensors[name]) for name in adapters.names)
    assert all(p.any() for p in adapters.low_down) and all(p.any() for p in adapters.high_down)
