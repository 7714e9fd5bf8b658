"""The experts against plain loops over pixels, and K-means where the clusters are known."""

import numpy as np
import pytest
import torch
from torch import nn

from ecotta_seg.layers.prototype_experts import PrototypeExperts, clusters


def test_clusters_are_those_that_the_points_were_made_of():
    generator = np.random.default_rng(0)
    centres, sizes = np.array([[0.0, 0.0], [9.0, 1.0], [2.0, 12.0]]), (3, 7, 5)
    groups = [c + generator.normal(0, 0.3, (n, 2)) for c, n in zip(centres, sizes)]
    points = np.concatenate(groups)[generator.permutation(15)]
    found = clusters(torch.from_numpy(points), 3)
    expected = [groups[index].mean(0) for index in (1, 2, 0)]
    assert np.allclose(found, expected)


def test_there_are_no_more_clusters_than_different_points():
    points = torch.tensor([[1.0, 2.0], [1.0, 2.0], [5.0, 0.0]])
    assert clusters(points, 4).tolist() == [[1.0, 2.0], [5.0, 0.0]]
    assert clusters(points, 1).tolist() == [points.mean(0).tolist()]


def _layer(outputs=4, **options):
    torch.manual_seed(0)
    classifier = nn.Conv2d(3, outputs, 1).double()
    given = dict(dict(experts=2, temperature=0.2, source_share=0.3), **options)
    return classifier, PrototypeExperts(classifier, **given).double()


def _fill(layer):
    """Makes prototypes of all classes but the last one, and a gate that is not equal."""
    nn.init.normal_(layer.prototypes)
    layer.prototypes[:, -1] = 0
    layer.known[:-1] = True
    with torch.no_grad():
        layer.gate_weight.normal_()
        layer.gate_bias.normal_()


@pytest.mark.parametrize('outputs', [4, 1])
def test_each_pixel_is_the_mix_of_the_formula(outputs):
    classifier, layer = _layer(outputs)
    _fill(layer)
    x = torch.randn(2, 3, 2, 3).double()
    found, plain = layer(x).detach().numpy(), classifier(x).detach().numpy()
    prototypes, weight, bias = (
        t.detach().numpy() for t in (layer.prototypes, layer.gate_weight, layer.gate_bias)
    )
    assert found.shape == plain.shape
    for n, i, j in np.ndindex(2, 2, 3):
        feature, logits = x[n, :, i, j].numpy(), plain[n, :, i, j]
        if outputs == 1:
            logits = np.array([0.0, logits[0]])
        source = np.exp(logits) / np.exp(logits).sum()
        lengths = np.linalg.norm(prototypes, axis=2) + 1e-300
        cosines = prototypes @ feature / np.linalg.norm(feature) / lengths
        gate = np.exp(weight @ cosines.flatten() + bias)
        gate /= gate.sum()
        shares = np.exp(cosines[:, :-1] / 0.2)
        shares /= shares.sum(axis=1, keepdims=True)
        experts = np.append((1 - source[-1]) * (gate @ shares), source[-1])
        mixed = np.log(0.3 * source + 0.7 * experts)
        expected = mixed if outputs > 1 else mixed[1:] - mixed[:1]
        assert np.allclose(found[n, :, i, j], expected)


def test_without_prototypes_the_classifier_predicts():
    classifier, layer = _layer()
    x = torch.randn(1, 3, 4, 5).double()
    assert torch.allclose(layer(x).softmax(1), classifier(x).softmax(1))


def test_prototypes_are_means_of_the_features_that_the_classifier_assigns():
    classifier, layer = _layer(experts=3)
    frames, sums = [torch.randn(1, 3, 5, 6).double() + n for n in range(2)], []
    with torch.no_grad():
        classifier.bias[2] = -99.0
        for x in frames:
            with layer.collecting() as found:
                assert torch.equal(layer(x), classifier(x))
            sums.append(found)
    layer.take(sums)
    assert layer.known.tolist()[2] is False and layer.known.sum() > 1
    for c in range(4):
        means = []
        for x in frames:
            assigned = (classifier(x).argmax(1) == c)[0]
            if assigned.any():
                means.append(x[0][:, assigned].mean(1))
        rows = [layer.prototypes[e, c] for e in range(3)]
        if not means:
            assert not torch.stack(rows).any()
            continue
        # With as many clusters as frames each cluster is a frame; the third expert has the first.
        assert torch.equal(rows[2], rows[0] if len(means) == 2 else rows[1])
        for mean in means:
            assert any(torch.allclose(row, mean) for row in rows)


def test_the_selection_is_the_mean_weight_of_each_expert_and_learns():
    _, layer = _layer()
    _fill(layer)
    x = torch.randn(1, 3, 4, 5).double()
    layer(x)
    weight, bias = layer.gate_weight, layer.gate_bias
    directions = torch.nan_to_num(layer.prototypes / layer.prototypes.norm(dim=2, keepdim=True))
    pixels = x[0].flatten(1) / x[0].flatten(1).norm(dim=0)
    gates = (weight @ (directions.flatten(0, 1) @ pixels) + bias[:, None]).softmax(0)
    assert torch.allclose(layer.selection(), gates.mean(1))
    for found, expected in zip(
        torch.autograd.grad(layer.selection()[0], (weight, bias)),
        torch.autograd.grad(gates.mean(1)[0], (weight, bias)),
    ):
        assert torch.allclose(found, expected) and found.any()
